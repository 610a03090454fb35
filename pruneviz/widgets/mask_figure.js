// The chosen layer's mask with its caption.

import { count, density, h, write } from "./dom.js";
import { cutOff, paint, plan, shadesOf } from "./mask_picture.js";

/** The figure; it is painted again when its width or the theme changes. Returns { element, update, watch }. */
export function maskFigure() {
  const canvas = h("canvas", { class: "pv-canvas", role: "img" });
  const [name, shape, kept, rows, words] = [h("strong"), h("span"), h("p"), h("p"), h("span")];
  const key = (kind) => h("i", { class: `pv-key ${kind}` });
  const legend = h("p", { class: "pv-legend" }, key("pv-key-on"), "kept ", key("pv-key-off"), words);
  const [across, down] = [h("span", { class: "pv-across" }), h("span", { class: "pv-down" })];
  const stage = h("div", { class: "pv-stage" }, across, down, h("div", { class: "pv-paper" }, canvas));
  const caption = h("figcaption", {}, h("p", { class: "pv-layer-name" }, name, " ", shape), kept, rows, legend);
  const element = h("figure", { class: "pv-picture" }, caption, stage);
  let last = null;
  let sight = null;

  /** Draw with the width and colours of now, which cost a layout of the page to ask for. */
  function look() {
    const room = Math.max(120, element.clientWidth - 24); // beside the label on the left
    sight = { room, scale: Math.min(3, window.devicePixelRatio || 1), shade: shadesOf(canvas) };
    draw();
  }

  function draw() {
    if (!last || !sight) return;
    const [layer, levels, index] = last;
    const { room, scale, shade } = sight;
    const p = plan(layer.shape, Math.floor(room * scale), Math.floor(Math.min(room, 340) * scale));
    const [vertical, horizontal] = p.turned ? [1, 0] : [0, 1];
    const extent = (axis) => `${count(axis ? p.in : p.out)} ${layer.axes[axis]}`;
    write(across, `${extent(horizontal)} →`);
    write(down, `${extent(vertical)} →`);
    if (levels) paint(canvas, levels, index, p, shade, scale);
    write(words, `removed · ${unit(p)}`);
  }

  function update(layer, levels, n, index) {
    last = [layer, levels, index];
    element.classList.toggle("pv-unknown", !levels);
    write(name, layer.label);
    write(shape, layer.shape.join(" × "));
    write(kept, levels ? `${count(n)} of ${count(layer.size)} kept, ${density(n, layer.size)}` : "no mask");
    write(rows, levels ? outputs(layer, cutOff(levels, index, layer.shape)) : "");
    canvas.setAttribute("aria-label", `Mask of ${layer.label}: ${kept.textContent}; ${rows.textContent}.`);
    draw();
  }

  /** Paint again on a new width or theme, until the returned function is called. */
  function watch() {
    let width = element.clientWidth;
    look();
    const sizes = new ResizeObserver(() => {
      if (element.clientWidth !== width) look();
      width = element.clientWidth;
    });
    sizes.observe(element);
    const themes = new MutationObserver(look);
    const options = { attributeFilter: ["data-theme", "data-jp-theme-light", "data-jp-theme-name", "class"] };
    [document.documentElement, document.body].forEach((node) => themes.observe(node, options));
    const scheme = window.matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", look);
    return () => {
      sizes.disconnect();
      themes.disconnect();
      scheme.removeEventListener("change", look);
    };
  }
  return { element, update, watch };
}

/** How many outputs have no weight left; a line that is always there, so that the picture below stays in place. */
function outputs(layer, gone) {
  const rows = layer.shape.length > 1 ? layer.shape[0] : 1;
  return `${gone ? count(gone) : "none"} of its ${count(rows)} ${layer.axes[0]} left without a weight`;
}

/** What one square of the picture is. */
function unit(p) {
  const kernel = p.kh * p.kw > 1 ? `${p.kh}\u202f×\u202f${p.kw} kernel` : "";
  if (!p.kernels) return `a square is a weight${kernel && `, a tile a ${kernel}`}`;
  const what = p.block === 1 ? `a ${kernel}` : `${p.block}\u202f×\u202f${p.block} ${kernel ? `${kernel}s` : "weights"}`;
  return `a square is ${what}: the stronger, the more is kept`;
}
