// Numbers as they were sent, in words and in a small table, and the slider of the sparsities that were measured.

import { slider, sparsityTicks } from "./controls.js";
import { count, decimals, h, icon, percent, write } from "./dom.js";
import { nearest } from "./levels.js";

const DIGITS = 4; // as many as the data have

/** 16950 -> "16,950"; 0.000012 -> "1.200 × 10⁻⁵"; nothing is rounded again. */
export function figure(v) {
  if (v === 0) return "0";
  const size = Math.abs(v);
  const sign = v < 0 ? "−" : "";
  if (size >= 1e-3 && size < 1e6) {
    const digits = { minimumSignificantDigits: DIGITS, maximumSignificantDigits: DIGITS };
    return sign + size.toLocaleString("en-US", digits);
  }
  const [mantissa, exponent] = size.toExponential(DIGITS - 1).split("e");
  const raised = String(Number(exponent)).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  return `${sign}${mantissa}\u202f×\u202f10${raised}`;
}

/** A change, always with its sign. */
export function signed(v) {
  return v > 0 ? `+${figure(v)}` : figure(v);
}

/** 99.88 -> "99.88 %", of a share in percent with two decimals. */
export function ofWeights(p) {
  return `${p.toFixed(2)}\u202f%`;
}

/** The slider of a grid of sparsities; `show(sparsity, kept, total)` moves it, with or without counts. */
export function sparsitySlider(grid, act) {
  const words = { less: "Remove fewer weights", more: "Remove more weights", ticks: sparsityTicks(grid) };
  const made = slider(words, grid, (value) => act("sparsity", value));
  const removed = h("strong");
  const digits = decimals(grid);
  made.label.append(h("span", { class: "pv-hidden" }, "Sparsity: "), removed, " removed");
  function show(sparsity, kept, total) {
    const index = nearest(grid, sparsity);
    const counts = kept === null ? "" : `${count(kept)} of ${count(total)} weights kept`;
    write(removed, percent(grid[index], digits));
    write(made.side, counts);
    made.show(index, `${percent(grid[index], digits)} removed${counts && `, ${counts}`}`);
  }
  return { element: made.element, show, text: (sparsity) => percent(grid[nearest(grid, sparsity)], digits) };
}

/** A small table: `update(header, rows)`, texts; the first cell of each row names it. A row may be a heading alone. */
export function facts(caption) {
  const table = h("table", { class: "pv-facts" });
  let said = "";
  function update(header, rows) {
    const saying = JSON.stringify([header, rows]);
    if (saying === said) return;
    said = saying;
    const cells = ([name, ...values]) => [h("th", { scope: "row" }, name), ...values.map((text) => h("td", {}, text))];
    const part = { scope: "rowgroup", colspan: header.length, class: "pv-facts-part" };
    const heading = ([name]) => h("th", part, name);
    table.replaceChildren(
      h("caption", { class: "pv-hidden" }, caption),
      h("thead", {}, h("tr", {}, ...header.map((text) => (text ? h("th", { scope: "col" }, text) : h("td"))))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...(row.length > 1 ? cells(row) : [heading(row)])))),
    );
  }
  return { element: table, update };
}

/** Sentences; `update([[kind, text], ...])` with the kinds of `icon`, "" for none, or "aside" for words of little weight. */
export function sentences() {
  const element = h("div", { class: "pv-say" });
  let said = "";
  function update(lines) {
    const saying = JSON.stringify(lines);
    if (saying === said) return;
    said = saying;
    const sign = (kind) => (kind && kind !== "aside" ? icon(kind) : null);
    const style = (kind) => ({ class: kind ? `pv-say-${kind}` : null });
    const line = ([kind, text]) => h("p", style(kind), sign(kind), h("span", {}, text));
    element.replaceChildren(...lines.map(line));
  }
  return { element, update };
}

/** The layers' names without an ending that they all share. */
export function labels(names) {
  const plain = names.map((name) => name.replace(" (use", "\u0000(use"));
  const shared = plain.every((name) => name.split("\u0000")[0].endsWith(".weight"));
  return shared ? names.map((name) => name.replace(/\.weight(?= \(use|$)/, "")) : names;
}
