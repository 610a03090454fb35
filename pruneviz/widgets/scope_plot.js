// All weights by the ranks that two methods give them, a sample of them as points; the line of a sparsity cuts the
// picture into the weights that both keep, that one keeps, and that none does.

import { count, h, write } from "./dom.js";

const TICKS = [0.1, 1, 10, 50, 90, 99, 99.9];
const MOST = 430; // pixels of a side
const LEAST = 0.02; // percent at either end: what is closer to 0 or 100 stands there
const [LEFT, TOP, RIGHT, BOTTOM] = [44, 24, 12, 44];

/** `choose(index)` when the reader presses one of the listed points. Returns { element, update, watch }. */
export function scopePlot(choose) {
  const svg = h("svg:svg", { class: "pv-scope-svg", role: "img" });
  const words = h("span");
  const key = (kind) => h("i", { class: `pv-scope-key ${kind}` });
  const caption = h("figcaption", {}, key("pv-scope-key-listed"), words, key("pv-scope-key-cloud"), "some of all weights");
  const element = h("figure", { class: "pv-scope" }, svg, caption);
  let last = null;
  let width = 0;

  function draw() {
    width = element.clientWidth;
    if (!last || !width) return;
    const side = Math.min(MOST, width) - LEFT - RIGHT;
    const [wide, tall] = [side + LEFT + RIGHT, side + TOP + BOTTOM];
    svg.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
    svg.setAttribute("width", wide);
    svg.setAttribute("height", tall);
    svg.setAttribute("aria-label", last.label);
    const at = scale(last.total, side);
    const place = ([snip, grasp]) => [LEFT + at(grasp), TOP + side - at(snip)];
    svg.replaceChildren(...ground(last, at, side), ...cloud(last, place), ...points(last, place, choose));
  }

  function update(now) {
    last = now;
    write(words, `most disputed in ${now.name}, press one `);
    draw();
  }

  function watch() {
    draw();
    const sizes = new ResizeObserver(() => element.clientWidth !== width && draw());
    sizes.observe(element);
    return () => sizes.disconnect();
  }
  return { element, update, watch };
}

/** A share of all weights in percent → pixels: the logarithm of the odds, so that both ends have room. */
function scale(total, side) {
  const least = Math.max(LEAST, 50 / total);
  const odds = (p) => Math.log(p / (100 - p));
  const [low, high] = [odds(least) * 1.06, odds(100 - least) * 1.06];
  return (p) => (side * (odds(Math.min(Math.max(p, least), 100 - least)) - low)) / (high - low);
}

/** The quarters with their counts, the lines of the sparsity, and the axes. */
function ground({ sparsity, counts }, at, side) {
  const cut = at(100 * sparsity);
  const [x, y, right, bottom] = [LEFT + cut, TOP + side - cut, LEFT + side, TOP + side];
  const area = (kind, left, top, width, height) => h("svg:rect", { class: kind, x: left, y: top, width, height });
  const line = (kind, x1, y1, x2, y2) => h("svg:line", { class: kind, x1, y1, x2, y2 });
  const text = (kind, left, top, anchor, words) =>
    h("svg:text", { class: kind, x: left, y: top, "text-anchor": anchor }, words);
  const parts = [
    area("pv-scope-one", x, y, right - x, bottom - y),
    area("pv-scope-one", LEFT, TOP, x - LEFT, y - TOP),
    area("pv-scope-both", x, TOP, right - x, y - TOP),
  ];
  for (const tick of TICKS) {
    const [across, up] = [LEFT + at(tick), bottom - at(tick)];
    parts.push(line("pv-scope-grid", across, TOP, across, bottom), line("pv-scope-grid", LEFT, up, right, up));
    parts.push(text("pv-scope-tick", across, bottom + 16, "middle", `${tick}`));
    parts.push(text("pv-scope-tick", LEFT - 6, up + 4, "end", `${tick}`));
  }
  parts.push(line("pv-scope-cut", x, TOP, x, bottom), line("pv-scope-cut", LEFT, y, right, y));
  parts.push(text("pv-scope-label", right, bottom + 35, "end", "Scored lower by GraSP, % of all weights"));
  parts.push(text("pv-scope-label", 0, 12, "start", "Scored lower by SNIP, %"));
  const names = [
    [LEFT + 6, TOP + 15, "start", `SNIP alone keeps ${count(counts.one)}`],
    [right - 6, bottom - 7, "end", `GraSP alone keeps ${count(counts.one)}`],
    [LEFT + 6, bottom - 7, "start", `neither: ${count(counts.none)}`],
  ];
  parts.push(text("pv-scope-count", right, 12, "end", `both keep ${count(counts.both)} ↓`));
  parts.push(...names.map(([left, top, anchor, words]) => text("pv-scope-count", left, top, anchor, words)));
  return [h("svg:g", { "aria-hidden": "true" }, ...parts)];
}

function cloud({ cloud: all }, place) {
  const dot = ([x, y]) => `M${(x - 1.5).toFixed(1)} ${y.toFixed(1)}a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0Z`;
  return [h("svg:path", { class: "pv-scope-cloud", d: all.map((pair) => dot(place(pair))).join("") })];
}

/** The layer's listed weights; the chosen one is drawn last, with a ring. */
function points({ listed, chosen }, place, choose) {
  const order = [...listed.keys()].sort((a, b) => (a === chosen) - (b === chosen));
  return order.map((i) => {
    const [cx, cy] = place([listed[i].snip.percent, listed[i].grasp.percent]);
    const dot = h("svg:circle", { class: "pv-scope-dot", cx, cy, r: i === chosen ? 5.5 : 4 });
    const reach = h("svg:circle", { class: "pv-scope-reach", cx, cy, r: 12 });
    const ring = i === chosen ? h("svg:circle", { class: "pv-scope-ring", cx, cy, r: 10 }) : null;
    return h("svg:g", { class: "pv-scope-point", click: () => choose(i) }, reach, dot, ring);
  });
}
