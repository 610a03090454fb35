// Markers, lines and their keys. A marker is named as matplotlib does, so that a method looks the same in figures.

import { h } from "./dom.js";

const star = Array.from({ length: 10 }, (_, i) => {
  const [r, a] = [i % 2 ? 0.5 : 1.25, (i * Math.PI) / 5 - Math.PI / 2];
  return `${(r * Math.cos(a)).toFixed(3)} ${(r * Math.sin(a)).toFixed(3)}`;
}).join("L");
// In units of the marker's radius.
const PATHS = {
  o: "M-1 0A1 1 0 1 0 1 0A1 1 0 1 0-1 0Z",
  s: "M-.9-.9H.9V.9H-.9Z",
  D: "M0-1.25 1.25 0 0 1.25-1.25 0Z",
  "^": "M0-1.15 1.1.9H-1.1Z",
  v: "M0 1.15 1.1-.9H-1.1Z",
  "<": "M-1.15 0 .9-1.1V1.1Z",
  ">": "M1.15 0-.9-1.1V1.1Z",
  P: "M-.4-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
  X: "M-1-.5-.5-1 0-.5.5-1 1-.5.5 0 1 .5.5 1 0 .5-.5 1-1 .5-.5 0Z",
  h: "M0-1.1.95-.55V.55L0 1.1-.95.55V-.55Z",
  p: "M0-1.1 1.05-.34.65.89H-.65L-1.05-.34Z",
  "*": `M${star}Z`,
  x: "M-1-1 1 1M-1 1 1-1",
};
const RADIUS = 4.2;

/** Whatever draws a series takes its colour from here; no colour is the text's. */
export function coloured(series) {
  return `--pv-series:${series.color || "var(--pv-ink)"}`;
}

/** A marker at a place; hollow ones show the paper through. */
export function marker(series, x, y, sign = series.marker, radius = RADIUS) {
  const kind = `pv-dot${series.hollow ? " pv-dot-hollow" : ""}${sign === "x" ? " pv-dot-lost" : ""}`;
  const transform = `translate(${x.toFixed(2)} ${y.toFixed(2)}) scale(${radius})`;
  return h("svg:path", { class: kind, d: PATHS[sign] || PATHS.o, transform, "vector-effect": "non-scaling-stroke" });
}

/** The key of a series or a rule: a piece of its line with its marker. */
export function swatch(series) {
  const parts = [];
  if (series.area) parts.push(h("svg:rect", { class: "pv-area", x: 1, y: 1, width: 22, height: 10 }));
  if (series.line !== false) parts.push(h("svg:line", { class: "pv-line", x1: 1, y1: 6, x2: 23, y2: 6, "stroke-dasharray": series.dash || null }));
  if (series.marker) parts.push(marker(series, 12, 6));
  return h("svg:svg", { class: "pv-swatch", viewBox: "0 0 24 12", style: coloured(series), "aria-hidden": "true" }, ...parts);
}
