// What a chart draws of its series, in a box of pixels.

import { coloured, marker } from "./chart_marks.js";
import { h } from "./dom.js";

/** Give each point of the series its place: [{ series, point, x, y, low, high }], those outside left out. */
export function places(spec, box, [x, y]) {
  const across = spec.value === "x"; // intervals lie along x
  const shown = spec.series.filter((series) => !series.hidden);
  const groups = [...new Set(shown.filter((series) => series.points.length).map(groupOf))];
  const side = aside(spec, box, groups.length);
  return shown.map((series) => {
    const shift = side(groups.indexOf(groupOf(series)));
    return series.points.flatMap((point, index) => {
      const px = box.left + x.at(point.x) * box.width + (across ? 0 : shift);
      const py = box.top + (1 - y.at(point.y)) * box.height + (across ? shift : 0);
      const inside = Math.abs(x.at(point.x) - 0.5) < 0.501 && Math.abs(y.at(point.y) - 0.5) < 0.501;
      if (!Number.isFinite(px) || !Number.isFinite(py)) return [];
      const end = (v) => (across ? box.left + x.at(v) * box.width : box.top + (1 - y.at(v)) * box.height);
      const known = Number.isFinite(point.low) && Number.isFinite(point.high);
      return [{ series, point, index, inside, x: px, y: py, ends: known ? [end(point.low), end(point.high)] : null }];
    });
  });
}

const groupOf = (series) => series.group ?? series.id;

/** How far the groups of series are moved aside, so that intervals at the same place do not cover each other. */
function aside(spec, box, count) {
  if (!spec.aside) return () => 0;
  const names = spec[spec.value === "x" ? "y" : "x"].names;
  const length = spec.value === "x" ? box.height : box.width;
  const room = spec.aside === true ? (names ? (0.45 * length) / names.length : 0.07 * length) : spec.aside * length;
  return (rank) => room * ((rank + 0.5) / count - 0.5);
}

/** Everything of one series, lines below markers. */
export function drawSeries(spec, placed) {
  if (!placed.length) return null;
  const { series } = placed[0];
  const across = spec.value === "x";
  const parts = [];
  const path = (points) => points.map((p, i) => `${i ? "L" : "M"}${p.x.toFixed(1)} ${p.y.toFixed(1)}`).join("");
  if (series.area) {
    const sure = placed.filter((p) => p.ends);
    const edge = (k) => sure.map((p) => (across ? { x: p.ends[k], y: p.y } : { x: p.x, y: p.ends[k] }));
    if (sure.length > 1) parts.push(h("svg:path", { class: "pv-area", d: `${path([...edge(0), ...edge(1).reverse()])}Z` }));
  }
  if (series.line !== false) {
    parts.push(h("svg:path", { class: "pv-line", d: path(placed), "stroke-dasharray": series.dash || null }));
  }
  const lines = h("svg:g", { "clip-path": `url(#${spec.clip})` }, ...parts);
  if (!series.area) lines.append(...placed.filter((p) => p.ends).map((p) => interval(p, across)));
  const marks = placed.filter((p) => p.inside && (series.marker || p.point.sign));
  const dots = marks.map((p) => marker(series, p.x, p.y, p.point.sign || series.marker));
  return h("svg:g", { class: `pv-series${series.faint ? " pv-faint" : ""}`, style: coloured(series) }, lines, ...dots);
}

/** An error bar with its two ends. */
function interval({ x, y, ends: [low, high] }, across) {
  const cap = 3;
  const d = across
    ? `M${low} ${y}H${high}M${low} ${y - cap}v${2 * cap}M${high} ${y - cap}v${2 * cap}`
    : `M${x} ${low}V${high}M${x - cap} ${low}h${2 * cap}M${x - cap} ${high}h${2 * cap}`;
  return h("svg:path", { class: "pv-interval", d });
}

/** A line through the whole picture, with a band around it if it has one. */
export function drawRule(rule, spec, box, [x, y]) {
  const upright = rule.axis === "x";
  const at = (v) => (upright ? box.left + x.at(v) * box.width : box.top + (1 - y.at(v)) * box.height);
  const parts = [];
  if (Number.isFinite(rule.low) && Number.isFinite(rule.high)) {
    const [a, b] = [at(rule.low), at(rule.high)].sort((p, q) => p - q);
    const shape = upright
      ? { x: a, y: box.top, width: b - a, height: box.height }
      : { x: box.left, y: a, width: box.width, height: b - a };
    parts.push(h("svg:rect", { class: "pv-area", ...shape }));
  }
  const ends = upright
    ? { x1: at(rule.at), x2: at(rule.at), y1: box.top, y2: box.top + box.height }
    : { x1: box.left, x2: box.left + box.width, y1: at(rule.at), y2: at(rule.at) };
  parts.push(h("svg:line", { class: "pv-line", ...ends, "stroke-dasharray": rule.dash || "6 4" }));
  return h("svg:g", { style: coloured(rule), "clip-path": `url(#${spec.clip})` }, ...parts);
}
