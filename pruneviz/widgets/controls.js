// What a reader moves: pills for one of a few, pills for any of a few, a list for one of many, a slider for a number.
//
//   pills(legend, [{ value, title, mark? }], choose)   → { element, offer(options), show(value) }    radio buttons
//   checks(legend, options, choose)                    → { element, offer(options), show([values]) } choose gets them all
//   picker(label, options, choose)                     → { element, offer(options), show(value) }    a list that opens
//   slider(words, grid, choose)                        → { element, label, side, show(index, text) }
//
// `offer` changes what can be chosen. `mark` is a node that stands before the title, such as a key of the picture.

import { h, uniqueId } from "./dom.js";

/** One of a few. */
export function pills(legend, options, choose) {
  const { element, offer, known, show } = pillbox("radio", legend, (input) => choose(valueOf(known(), input)));
  offer(options);
  return { element, offer, show: (value) => show([value]) };
}

/** Any of a few. */
export function checks(legend, options, choose) {
  const box = pillbox("checkbox", legend, () => choose(box.chosen()));
  box.offer(options);
  return { element: box.element, offer: box.offer, show: box.show };
}

function pillbox(type, legend, changed) {
  const group = uniqueId();
  const element = h("fieldset", { class: "pv-methods" }, h("legend", {}, legend));
  let options = [];
  let inputs = [];
  function offer(wanted) {
    const same = wanted.length === options.length && wanted.every((o, i) => o.value === options[i].value);
    if (same) return;
    options = wanted;
    const change = (event) => changed(event.target);
    inputs = options.map((o) => h("input", { type, name: group, value: o.value, change }));
    const label = (o, i) => h("label", { class: "pv-pill" }, inputs[i], h("span", {}, o.mark ?? null, o.title));
    element.replaceChildren(element.firstChild, ...options.map(label));
  }
  const show = (values) => inputs.forEach((input) => (input.checked = values.map(String).includes(input.value)));
  const chosen = () => options.filter((option, i) => inputs[i].checked).map((option) => option.value);
  return { element, offer, known: () => options, show, chosen };
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
