// The values at a point: shown where the pointer is or where the arrow keys have gone, and spoken on focus.

import { h } from "./dom.js";

const REACH = 44; // pixels between the pointer and the nearest point

/**
 * Watches a chart's `svg` in its `stage`; `spec()` is what the chart shows now. Returns { update(placed) }, to be told of
 * each drawing: the points by series, as `places` has made them.
 */
export function readout(stage, svg, spec) {
  const card = h("div", { class: "pv-card", hidden: true, "aria-hidden": "true" });
  const layer = h("svg:g", {});
  let rows = [];
  let at = [0, 0];
  let cursor = null;
  stage.append(card);
  svg.append(layer); // for good: what is focused must not leave the page

  /** Take the places of a new drawing; what was under the cursor stays there if it still exists. */
  function update(placed) {
    const was = rows[at[0]]?.[at[1]];
    rows = placed.map((places) => places.filter((p) => p.inside && !p.series.silent)).filter((places) => places.length);
    const series = was ? rows.findIndex((places) => places[0].series.id === was.series.id) : -1;
    const index = series >= 0 ? rows[series].findIndex((p) => p.index === was.index) : -1;
    at = index >= 0 ? [series, index] : [0, 0];
    if (!rows.length) {
      cursor?.remove();
      cursor = null;
      card.hidden = true;
      return;
    }
    if (!cursor) place();
    dress(cursor, current());
    if (focused()) show(current());
    else hide();
  }

  const current = () => rows[at[0]][at[1]];
  const focused = () => cursor !== null && cursor === stage.getRootNode().activeElement;

  /** A new element under the cursor: its focus makes a screen reader say what it is. */
  function place() {
    const old = cursor;
    cursor = h("svg:circle", { class: "pv-cursor", r: 9, tabindex: 0, role: "img", focus: () => show(current()), blur: hide });
    layer.append(cursor);
    return old;
  }

  function dress(node, p) {
    node.setAttribute("cx", p.x);
    node.setAttribute("cy", p.y);
    node.setAttribute("aria-label", spoken(p));
  }

  function go(next) {
    at = next;
    const old = place();
    dress(cursor, current());
    cursor.focus({ preventScroll: true });
    old.remove();
  }

  const words = (p) => spec().readout?.(p.series, p.point) ?? { title: p.series.label, rows: [[p.point.text || "", "", true]] };

  function spoken(p) {
    if (p.point.text) return `${p.series.label}: ${p.point.text}`;
    const { title, rows: lines } = words(p);
    return [title, ...lines.filter((line) => line[2]).map(([name, value]) => `${name} ${[value].flat().join(", ")}`)].join(", ");
  }

  function show(p) {
    const { title, header, rows: lines, foot } = words(p);
    const cells = (name, value) => [h("th", {}, name), ...[value].flat().map((text) => h("td", {}, text))];
    const line = ([name, value, strong]) => h("tr", { class: strong ? "pv-card-this" : null }, ...cells(name, value));
    const head = header ? h("thead", {}, line(["", header])) : null;
    const small = foot ? h("p", { class: "pv-card-foot" }, foot) : null;
    const table = h("table", {}, ...(head ? [head] : []), h("tbody", {}, ...lines.map(line)));
    card.replaceChildren(h("p", {}, title), table, ...(small ? [small] : []));
    card.hidden = false;
    layer.classList.add("pv-on");
    cursor.setAttribute("cx", p.x);
    cursor.setAttribute("cy", p.y);
    settle(p);
  }

  /** Beside the point where there is room, else below or above it. */
  function settle(p) {
    const [width, height] = [card.offsetWidth, card.offsetHeight];
    const beside = p.x + 16 + width <= stage.clientWidth ? p.x + 16 : p.x - 16 - width;
    const fits = beside >= 0;
    const below = p.y + 16 + height <= stage.clientHeight ? p.y + 16 : p.y - 16 - height;
    const left = fits ? beside : Math.max(0, Math.min(stage.clientWidth - width, p.x - width / 2));
    const top = fits ? Math.max(0, Math.min(stage.clientHeight - height, p.y - height / 2)) : below;
    card.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  function hide() {
    if (focused()) return show(current());
    card.hidden = true;
    layer.classList.remove("pv-on");
    if (rows.length) dress(cursor, current());
  }

  function point(event) {
    const frame = svg.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    const far = (p) => Math.hypot(p.x - x, p.y - y);
    const nearest = rows.flat().reduce((best, p) => (!best || far(p) < far(best) ? p : best), null);
    if (nearest && far(nearest) < REACH) show(nearest);
    else hide();
  }

  function press(event) {
    if (!rows.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const [series, index] = at;
    const along = spec().value === "x" ? { ArrowDown: 1, ArrowUp: -1 } : { ArrowRight: 1, ArrowLeft: -1 };
    const between = spec().value === "x" ? { ArrowRight: 1, ArrowLeft: -1 } : { ArrowDown: 1, ArrowUp: -1 };
    const ends = { Home: 0, End: rows[series].length - 1 };
    const within = (n, length) => Math.max(0, Math.min(length - 1, n));
    if (event.key in along) go([series, within(index + along[event.key], rows[series].length)]);
    else if (event.key in ends) go([series, ends[event.key]]);
    else if (event.key in between) {
      const next = within(series + between[event.key], rows.length);
      const p = current();
      const far = (q) => Math.hypot(q.x - p.x, spec().value === "x" ? 4 * (q.y - p.y) : 0);
      const order = rows[next].map((_, i) => i).sort((a, b) => far(rows[next][a]) - far(rows[next][b]));
      go([next, order[0]]);
    } else if (event.key === "Escape") {
      card.hidden = true;
      return;
    } else return;
    event.preventDefault();
  }

  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("keydown", press);
  return { update };
}
