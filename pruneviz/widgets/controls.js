// What a reader moves: pills for one of a few, pills for any of a few, a list for one of many, a slider for a number.
//
//   pills(legend, [{ value, title, mark? }], choose)   → { element, show(value) }    radio buttons
//   checks(legend, options, choose)                    → { element, show([values]) } choose gets the whole list
//   picker(label, options, choose)                     → { element, show(value), offer(options) }
//   slider(words, grid, choose)                        → { element, label, side, show(index, text) }
//
// `mark` is a node that stands before the title, such as a key of the picture.

import { h, uniqueId } from "./dom.js";

/** One of a few. */
export function pills(legend, options, choose) {
  const group = uniqueId();
  const { element, inputs } = pillbox("radio", legend, options, group, (input) => choose(valueOf(options, input)));
  return { element, show: (value) => inputs.forEach((input) => (input.checked = input.value === String(value))) };
}

/** Any of a few. */
export function checks(legend, options, choose) {
  const chosen = () => options.filter((option, i) => inputs[i].checked).map((option) => option.value);
  const { element, inputs } = pillbox("checkbox", legend, options, uniqueId(), () => choose(chosen()));
  const show = (values) => inputs.forEach((input) => (input.checked = values.map(String).includes(input.value)));
  return { element, show };
}

function pillbox(type, legend, options, group, changed) {
  const inputs = options.map((option) =>
    h("input", { type, name: group, value: option.value, change: (event) => changed(event.target) }),
  );
  const labels = options.map((option, i) =>
    h("label", { class: "pv-pill" }, inputs[i], h("span", {}, option.mark ?? null, option.title)),
  );
  const element = h("fieldset", { class: "pv-methods" }, h("legend", {}, legend), ...labels);
  return { element, inputs };
}

const valueOf = (options, input) => options.find((option) => String(option.value) === input.value).value;

/** One of many, in a list that opens; `offer` changes what is in the list. */
export function picker(label, options, choose) {
  let known = options;
  const select = h("select", { id: uniqueId(), change: () => choose(valueOf(known, select)) });
  function offer(wanted) {
    const same = wanted.length === select.length && wanted.every((o, i) => select.options[i].text === o.title);
    known = wanted;
    if (!same) select.replaceChildren(...wanted.map((o) => h("option", { value: o.value }, o.title)));
  }
  offer(options);
  const element = h("p", { class: "pv-picker" }, h("label", { for: select.id }, label), select);
  return { element, offer, show: (value) => (select.value = String(value)) };
}

/**
 * One of a grid of numbers, as a slider between two buttons. `words` has the buttons' names, `less` and `more`, and
 * `ticks`, the marks below: [index, text] pairs, the important ones first. The label is the caller's to fill.
 */
export function slider(words, grid, choose) {
  const last = grid.length - 1;
  let now = 0;
  const go = (index) => choose(grid[Math.max(0, Math.min(last, index))]);
  const input = h("input", { type: "range", id: uniqueId(), min: 0, max: last, step: 1, input: () => go(Number(input.value)) });
  const less = h("button", { type: "button", "aria-label": words.less, click: () => go(now - 1) }, "−");
  const more = h("button", { type: "button", "aria-label": words.more, click: () => go(now + 1) }, "+");
  const ticks = h("div", { class: "pv-ticks", "aria-hidden": "true" }, ...marks(words.ticks, last));
  const label = h("label", { for: input.id });
  const side = h("p");
  const element = h(
    "div",
    { class: "pv-slider" },
    h("div", { class: "pv-readout" }, label, side),
    h("div", { class: "pv-rail" }, less, h("div", { class: "pv-range" }, input, ticks), more),
  );

  function show(index, text) {
    now = index;
    input.value = index;
    input.style.setProperty("--at", last ? index / last : 0);
    input.setAttribute("aria-valuetext", text);
    less.setAttribute("aria-disabled", String(index === 0));
    more.setAttribute("aria-disabled", String(index === last));
  }
  return { element, label, side, show };
}

/** Marks that are close to a more important one give way where there is little room. */
function marks(wanted, last) {
  const chosen = [];
  for (const [index, text] of wanted) {
    const at = last ? index / last : 0;
    const away = (from) => Math.min(1, ...from.map((mark) => Math.abs(mark.at - at)));
    if (away(chosen) < 0.085) continue;
    chosen.push({ text, at, minor: away(chosen.filter((mark) => !mark.minor)) < 0.19 });
  }
  return chosen.map(({ text, at, minor }) => h("span", { style: `--at:${at}`, class: minor ? "pv-minor" : null }, text));
}

/** The marks of a grid of sparsities. */
export function sparsityTicks(grid) {
  const wanted = [grid[0], grid[grid.length - 1], 0.9, 0.99, 0.5, 0.95, 0.98, 0.8, 0.25, 0.75];
  const known = wanted.filter((s) => grid.includes(s));
  return known.map((s) => [grid.indexOf(s), `${Number((s * 100).toFixed(3))}\u202f%`]);
}
