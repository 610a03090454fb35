// Elements and numbers, written the same way everywhere.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; functions become listeners, text is always text. */
export function h(tag, attributes = {}, ...children) {
  const [name, svg] = tag.startsWith("svg:") ? [tag.slice(4), true] : [tag, false];
  const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Write text only where it changed: screen readers and layout hear of nothing else. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A triangle with an exclamation mark, or a check mark: a sign that does not depend on colour. */
export function icon(kind) {
  const paths = {
    alert: ["M8 1.8 15 14.2H1Z", "M8 6v4", "M8 12v.3"],
    few: ["M8 2.6 14.2 13.6H1.8Z"],
    fine: ["M2.5 8.5 6.3 12.2 13.5 4.2"],
  };
  const lines = paths[kind].map((d) => h("svg:path", { d }));
  return h("svg:svg", { class: `pv-icon pv-icon-${kind}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, ...lines);
}

const grouped = new Intl.NumberFormat("en-US");

/** 67600 -> "67,600" */
export function count(n) {
  return grouped.format(n);
}

/** How many decimals the grid's sparsities need as percentages, at least one. */
export function decimals(grid) {
  const needed = (s) => [1, 2, 3, 4].find((d) => Math.abs(s * 100 - Number((s * 100).toFixed(d))) < 1e-9) ?? 4;
  return Math.max(...grid.map(needed));
}

/** 0.98 -> "98.0 %" (a fixed number of decimals, so that nothing jumps while a slider moves) */
export function percent(fraction, digits) {
  return `${(fraction * 100).toFixed(digits)}\u202f%`;
}

/** A density with three figures that mean something: "100 %", "29.9 %", "4.30 %", "0.043 %". */
export function density(kept, total) {
  const p = (100 * kept) / total;
  if (p === 0 || p === 100) return `${p}\u202f%`;
  // 99.97 must not read as 100, which would say that nothing is removed.
  const text = p >= 10 ? Math.min(p, 99.9).toFixed(1) : p >= 1 ? p.toFixed(2) : p.toFixed(3);
  return `${text}\u202f%`;
}

/** An id that no other widget on the page has. */
export function uniqueId() {
  return `pv-${Math.random().toString(36).slice(2, 10)}`;
}
