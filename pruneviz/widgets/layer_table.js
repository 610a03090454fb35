// The density of every layer: a table whose rows choose the layer, with a bar for the eye and numbers for everyone.

import { count, density, h, icon, write } from "./dom.js";

// The logarithmic scale starts here; less is drawn as a stub, and its number is exact.
const FLOOR = 1e-4;
export const SCALES = {
  logarithmic: {
    at: (d) => (d <= 0 ? 0 : Math.max(0.012, 1 - Math.log10(d) / Math.log10(FLOOR))),
    ticks: [0.0001, 0.01, 1],
    word: "log scale",
  },
  linear: { at: (d) => d, ticks: [0, 0.5, 1], word: "linear scale" },
};

/**
 * Build the table; `choose(index)` is called when the reader picks a layer, `measure(scale)` for another scale of the
 * bars. Returns { element, update, focus, reveal }.
 */
export function layerTable(layers, choose, measure) {
  let last = null;
  const total = layers.reduce((n, layer) => n + layer.size, 0);
  const ticks = h("div", { class: "pv-axis", "aria-hidden": "true" });
  const toggle = h("button", { type: "button", class: "pv-scale", click: () => turn() });
  const rows = layers.map((layer, index) => row(layer, () => choose(index)));
  const all = row({ name: "", label: "all layers", size: total, shape: [0] }, null);
  const body = h("tbody", { keydown: (event) => move(event) }, ...rows.map((r) => r.element));
  const table = h(
    "table",
    { class: "pv-table" },
    h("caption", { class: "pv-hidden" }, "Weights kept in each layer. Each row has a button that shows the layer's mask."),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col", class: "pv-col-name" }, "Layer"),
        h("th", { scope: "col", class: "pv-col-bar" }, toggle, ticks),
        h("th", { scope: "col", class: "pv-col-kept" }, "Kept"),
        h("th", { scope: "col", class: "pv-col-share" }, h("span", { class: "pv-hidden" }, "Kept, in percent")),
      ),
      all.element,
    ),
    body,
  );

  function turn() {
    measure(last.scale === "linear" ? "logarithmic" : "linear");
  }

  function drawAxis(scale) {
    if (table.dataset.scale === scale) return;
    const { at, ticks: marks, word } = SCALES[scale];
    toggle.replaceChildren(h("span", {}, "Density, "), word);
    toggle.title = `The bars' scale is ${scale}: click to change it`;
    table.dataset.scale = scale;
    const place = (d) => (d === FLOOR ? 0 : at(d));
    const label = (d) => `${Number((d * 100).toPrecision(3))}${d === 1 ? "\u202f%" : ""}`;
    ticks.replaceChildren(...marks.map((d) => h("span", { style: `--at:${place(d)}` }, label(d))));
  }

  function move(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(layers.length - 1, last.selected + steps[event.key]));
    choose(next);
    focus(next);
  }

  function focus(index) {
    rows[index].button.focus();
  }

  /** Show `kept[index]` weights of each layer, the whole network's density, which layer is chosen, and the scale. */
  function update(state) {
    last = state;
    const { at } = SCALES[state.scale];
    drawAxis(state.scale);
    table.classList.toggle("pv-known", state.kept !== null);
    if (state.kept) table.style.setProperty("--pv-global", at(state.all / total));
    all.update(state.kept && state.all, false, at);
    rows.forEach((r, index) => r.update(state.kept && state.kept[index], index === state.selected, at));
  }

  /** Bring the chosen layer into the list's window, without moving the page. */
  function reveal() {
    const chosen = rows[last.selected].element;
    element.scrollTop = Math.max(0, chosen.offsetTop + chosen.offsetHeight - element.clientHeight + 24);
  }

  const element = h("div", { class: "pv-layers" }, table);
  return { element, update, focus, reveal };
}

/** One layer, or with no `choose` all of them. A layer keeps few if it has fewer weights than outputs. */
function row(layer, choose) {
  const bar = h("span", { class: "pv-bar" });
  const kept = h("span");
  const share = h("span");
  const mark = h("span", { class: "pv-mark" });
  const label = h("bdi", {}, layer.label);
  const button = choose && h("button", { type: "button", class: "pv-row-button", title: layer.name, click: choose }, label);
  const element = h(
    "tr",
    {},
    h("th", { scope: "row", class: "pv-col-name" }, button || label),
    h("td", { class: "pv-col-bar", "aria-hidden": "true" }, h("span", { class: "pv-bar-track" }, bar)),
    h("td", { class: "pv-col-kept" }, kept, h("span", { class: "pv-of" }, ` / ${count(layer.size)}`)),
    h("td", { class: "pv-col-share" }, mark, share),
  );
  let sign = "";
  function update(n, selected, at) {
    const known = n !== null;
    const next = known ? signOf(n, layer) : "";
    write(kept, known ? count(n) : "–");
    write(share, !known ? "" : n === 0 ? "none" : density(n, layer.size));
    bar.style.setProperty("--pv-length", known ? at(n / layer.size) : 0);
    if (next !== sign) {
      sign = next;
      mark.replaceChildren(...(sign ? [icon(sign), h("span", { class: "pv-hidden" }, WORDS[sign])] : []));
    }
    element.className = `${button ? "" : "pv-row-all"} ${sign ? `pv-row-${sign}` : ""}`;
    if (!button) return;
    button.setAttribute("aria-pressed", String(selected));
    button.tabIndex = selected ? 0 : -1;
  }
  return { element, button, update };
}

/** "alert" for a layer that has collapsed, "few" for one with fewer weights than outputs, "" for the others. */
export function signOf(kept, layer) {
  if (kept === 0) return "alert";
  return kept < layer.shape[0] && kept < layer.size ? "few" : "";
}

const WORDS = { alert: "collapsed: ", few: "very few: " };
