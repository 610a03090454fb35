// A chart of lines and points that a reader can point at, walk through by keyboard, and read as a table.
//
//   const picture = chart();                     once; picture.element is the place for it
//   picture.update(spec);                        whenever anything has changed
//   const stop = picture.watch();                once it is on the page; draws again when its width changes
//
// spec = {
//   label    what the picture is, its caption: "Test accuracy against sparsity"
//   x, y     axes: { label, scale, ... }, scale one of
//              "linear"   options: domain [low, high], ticks [[value, text]] (those that matter most first), format(value),
//                         apart (pixels between ticks at least)
//              "log"      the same; values that are not positive are not drawn
//              "density"  of sparsities: 0.9, 0.99 and 0.999 are equally far apart
//              "names"    names ["conv1", ...]; values are 0, 1, ...; on y the first is on top, each name above its line
//   series   [{ id, label, points,
//              color      any CSS colour; none: the text's
//              marker     as in matplotlib, "o s D ^ v < > P X h p *"; none: a line alone
//              dash       as in SVG, "4 3"
//              line       false: points alone
//              hollow, faint, hidden (in the legend only), quiet (not in the legend), silent (no values to read),
//              fixed (its key in the legend is no button)
//              group      with `aside`: series of the same group stand at the same side; none: its id
//              area }]    the points' intervals as a band, not as bars
//            A point is { x, y, low, high, text, sign }: low and high of its interval or null, `text` what is said of it,
//            sign "x" for a run that was lost.
//   rules    lines through the picture: [{ axis: "x" | "y", at, low, high, label, color, dash }]
//   value    "x" if intervals lie along x, as where y has names
//   aside    true: series stand side by side, so that intervals do not cover each other; or the share of the axis
//   height   pixels; none: from the width
//   toggle   function(id): the legend's entries become buttons that call it
//   readout  function(series, point) → { title, header, rows: [[name, value or values, strong]], foot }, header and foot
//            if there are any; none: the point's text
//   table    { caption, header, rows } of texts; none: every point with its text
//   empty    what is said where there is nothing to draw
// }
// Colours come from the page: texts are --pv-ink and --pv-muted, never a series's colour.

import { drawAxes, linesOf, placed } from "./chart_axes.js";
import { drawRule, drawSeries, places } from "./chart_draw.js";
import { swatch } from "./chart_marks.js";
import { readout } from "./chart_readout.js";
import { h, uniqueId, write } from "./dom.js";

const NARROWEST = 80; // pixels; while a page is laid out there can be less for a moment

/** A chart: { element, update(spec), watch() }. */
export function chart() {
  const clip = uniqueId();
  const legend = h("ul", { class: "pv-chart-legend" });
  const scene = h("svg:g");
  const svg = h("svg:svg", { class: "pv-chart-svg" }, scene);
  // An application, so that screen readers leave the arrow keys to it.
  const stage = h("div", { class: "pv-chart-stage", role: "application", "aria-roledescription": "chart" }, svg);
  const nothing = h("p", { class: "pv-chart-empty" });
  const sheet = h("div", { class: "pv-chart-sheet" });
  const details = h("details", { class: "pv-chart-details", toggle: () => fill() }, h("summary", {}, "Show as a table"), sheet);
  const caption = h("figcaption", { class: "pv-chart-caption" });
  const element = h("figure", { class: "pv-chart" }, legend, nothing, stage, caption, details);
  let last = null;
  let width = 0;
  const hover = readout(stage, svg, () => last);

  function update(spec) {
    last = { rules: [], ...spec, clip };
    stage.setAttribute("aria-label", `${spec.label}. Arrow keys go from value to value.`);
    write(caption, `${spec.label.charAt(0).toUpperCase()}${spec.label.slice(1)}.`);
    drawLegend();
    draw();
    fill();
  }

  function drawLegend() {
    const entries = [...last.series.filter((s) => !s.quiet), ...last.rules.filter((r) => r.label)];
    const buttons = () => [...legend.querySelectorAll("button")];
    const had = buttons().find((button) => button === legend.getRootNode().activeElement)?.dataset.id;
    legend.replaceChildren(...entries.map((entry) => h("li", {}, legendEntry(entry, last.toggle))));
    buttons().find((button) => button.dataset.id === had)?.focus({ preventScroll: true });
  }

  function draw() {
    width = element.clientWidth; // the stage has none while it is hidden
    if (!last || width < NARROWEST) return;
    const shown = last.series.filter((s) => !s.hidden && s.points.length);
    write(nothing, shown.length || last.rules.length ? "" : last.empty || "There is nothing to show.");
    stage.hidden = details.hidden = nothing.textContent !== "";
    const height = last.height || Math.round(Math.max(250, Math.min(380, 0.58 * width)));
    const values = valuesOf(last, shown);
    const names = last.y.scale === "names";
    const top = last.y.label ? 24 : 10;
    const under = 30 + 15 * linesOf(last.x.label, width - 14).length;
    const tall = { top, height: height - top - under };
    const y = placed({ apart: 38, down: names, ...last.y }, values.y, tall.height);
    const left = names ? 2 : Math.ceil(y.width) + 10;
    const box = { ...tall, left, right: 14, width: width - left - 14 };
    const x = placed({ apart: 50, ...last.x }, values.x, box.width);
    last.rise = names ? (0.25 * box.height) / last.y.names.length + 9 : 0; // above the topmost series
    const at = places(last, box, [x, y]);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    const inner = { x: box.left - 1, y: box.top - 1, width: box.width + 2, height: box.height + 2 };
    scene.replaceChildren(
      h("svg:clipPath", { id: clip }, h("svg:rect", inner)),
      drawAxes(box, [x, y], last),
      ...last.rules.map((rule) => drawRule(rule, last, box, [x, y])),
      ...at.map((of) => drawSeries(last, of)).filter((part) => part !== null),
    );
    hover.update(at);
  }

  /** The table is made when it is opened: most readers never ask for it. */
  function fill() {
    if (details.open && last) sheet.replaceChildren(tableOf(last.table || pointsOf(last)));
  }

  function watch() {
    draw();
    const sizes = new ResizeObserver(() => element.clientWidth !== width && draw());
    sizes.observe(element);
    return () => sizes.disconnect();
  }
  return { element, update, watch };
}

/** All values that the axes must reach, ends of intervals and rules included. */
function valuesOf(spec, shown) {
  const points = shown.flatMap((series) => series.points);
  // x stays as it is when series are hidden; y makes use of the room.
  const values = { x: spec.series.flatMap((series) => series.points.map((p) => p.x)), y: points.map((p) => p.y) };
  const along = values[spec.value === "x" ? "x" : "y"];
  points.forEach((p) => along.push(...[p.low, p.high].filter(Number.isFinite)));
  spec.rules.forEach((r) => values[r.axis].push(...[r.at, r.low, r.high].filter(Number.isFinite)));
  return values;
}

function legendEntry(entry, toggle) {
  const banded = Number.isFinite(entry.low) && Number.isFinite(entry.high);
  const key = entry.points ? entry : { dash: "6 4", area: banded, ...entry };
  const words = [swatch(key), h("span", {}, entry.label)];
  if (!toggle || !entry.id || entry.fixed) return h("span", { class: "pv-chart-key" }, ...words);
  const press = { type: "button", "data-id": entry.id, "aria-pressed": String(!entry.hidden), click: () => toggle(entry.id) };
  return h("button", { class: "pv-chart-key", ...press }, ...words);
}

/** Every point that is drawn, as a table's rows. */
function pointsOf(spec) {
  const shown = spec.series.filter((series) => !series.hidden);
  const rows = shown.flatMap((series) => series.points.map((p) => [series.label, p.text || `${p.x}, ${p.y}`]));
  return { caption: spec.label, header: ["series", "value"], rows };
}

/** A table of texts; the first cell of each row names it. */
export function tableOf({ caption, header, rows }) {
  const cells = ([first, ...rest]) => [h("th", { scope: "row" }, first), ...rest.map((text) => h("td", {}, text))];
  return h(
    "table",
    { class: "pv-chart-table" },
    h("caption", {}, h("span", {}, caption)),
    h("thead", {}, h("tr", {}, ...header.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, ...cells(row)))),
  );
}
