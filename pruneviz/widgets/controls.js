// The two things a reader moves: the method and the sparsity.

import { count, h, percent, uniqueId, write } from "./dom.js";

/** The methods as radio buttons, the sparsity as a slider between two buttons. */
export function controls(data, digits, act, where) {
  const group = uniqueId();
  const radios = data.methods.map((m) =>
    h("input", { type: "radio", name: group, value: m.id, change: () => act("method", m.id) }),
  );
  const pills = data.methods.map((m, i) => h("label", { class: "pv-pill" }, radios[i], h("span", {}, m.title)));
  const methods = h("fieldset", { class: "pv-methods" }, h("legend", {}, "Weights are scored by"), ...pills);

  const last = data.grid.length - 1;
  const go = (index) => act("sparsity", data.grid[Math.max(0, Math.min(last, index))]);
  const range = { type: "range", id: `${group}-s`, min: 0, max: last, step: 1 };
  const input = h("input", { ...range, input: () => go(Number(input.value)) });
  const less = h("button", { type: "button", "aria-label": "Remove fewer weights", click: () => go(where() - 1) }, "−");
  const more = h("button", { type: "button", "aria-label": "Remove more weights", click: () => go(where() + 1) }, "+");
  const removed = h("strong");
  const kept = h("strong");
  const of = h("span");
  const ticks = h("div", { class: "pv-ticks", "aria-hidden": "true" }, ...marks(data.grid));
  const slider = h(
    "div",
    { class: "pv-slider" },
    h(
      "div",
      { class: "pv-readout" },
      h("label", { for: input.id }, h("span", { class: "pv-hidden" }, "Sparsity: "), removed, " removed"),
      h("p", {}, kept, of),
    ),
    h("div", { class: "pv-rail" }, less, h("div", { class: "pv-range" }, input, ticks), more),
  );

  function show(now, asked, total) {
    radios.forEach((radio) => (radio.checked = radio.value === now.chosen.id));
    input.value = now.index;
    input.style.setProperty("--at", last ? now.index / last : 0);
    const n = now.all ?? asked;
    write(removed, percent(now.sparsity, digits));
    write(kept, count(n));
    write(of, ` of ${count(total)} weights ${now.kept ? "kept" : "to keep"}`);
    const text = `${percent(now.sparsity, digits)} removed, ${count(n)} of ${count(total)} weights kept`;
    input.setAttribute("aria-valuetext", text);
    less.setAttribute("aria-disabled", String(now.index === 0));
    more.setAttribute("aria-disabled", String(now.index === last));
  }
  return { methods, slider, show };
}

/** Labels below the slider, the important ones first; those close to another give way where there is little room. */
function marks(grid) {
  const last = grid.length - 1;
  const chosen = [];
  for (const s of [grid[0], grid[last], 0.9, 0.99, 0.5, 0.95, 0.98, 0.8, 0.25, 0.75]) {
    const at = last ? grid.indexOf(s) / last : 0;
    const away = (from) => Math.min(1, ...from.map((mark) => Math.abs(mark.at - at)));
    if (!grid.includes(s) || away(chosen) < 0.085) continue;
    chosen.push({ s, at, minor: away(chosen.filter((mark) => !mark.minor)) < 0.19 });
  }
  return chosen.map(({ s, at, minor }) => {
    const text = `${Number((s * 100).toFixed(3))}\u202f%`;
    return h("span", { style: `--at:${at}`, class: minor ? "pv-minor" : null }, text);
  });
}
