// The mask explorer: choose how weights are scored, drag the sparsity, see what is kept and where.
// The model gives `data` (layers, grid, methods with their levels) and the state `method`, `sparsity`, `layer`,
// `scale` (of the table's bars); it is a kernel's or a page's (page.js): nothing here knows which.

import { pills, slider, sparsityTicks } from "./controls.js";
import { count, decimals, h, percent, write } from "./dom.js";
import { SCALES, layerTable } from "./layer_table.js";
import { keptAt, nearest, roundHalfEven, split, toBytes } from "./levels.js";
import { maskFigure } from "./mask_figure.js";
import { limitOf, notes } from "./notes.js";
import { shell } from "./shell.js";

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

function render({ model, el }) {
  const data = model.get("data");
  const layers = named(data.layers);
  const total = sum(layers.map((layer) => layer.size));
  const digits = decimals(data.grid);
  const known = new Map();

  /** A method's levels by layer and its counts by layer and grid index; null while the kernel still scores. */
  function method() {
    const chosen = model.get("data").methods.find((m) => m.id === model.get("method"));
    if (!known.has(chosen.id) && chosen.levels) {
      const levels = split(toBytes(chosen.levels), layers);
      known.set(chosen.id, { levels, kept: levels.map((part) => keptAt(part, chosen.points)) });
    }
    return { ...chosen, ...known.get(chosen.id) };
  }

  const act = (name, value) => frame.act(name, value);
  const parts = {
    methods: pills("Weights are scored by", data.methods.map((m) => ({ value: m.id, title: m.title })), (id) => act("method", id)),
    sparsity: sparsitySlider(data, digits, (sparsity) => act("sparsity", sparsity)),
    table: layerTable(layers, (index) => act("layer", layers[index].name), (scale) => act("scale", scale)),
    picture: maskFigure(),
    notes: notes(layers, digits, (index) => {
      act("layer", layers[index].name);
      parts.table.focus(index);
    }),
  };
  const panes = h("div", { class: "pv-panes" }, parts.table.element, parts.picture.element);
  const frame = shell(model, "masks", "Mask explorer", [parts.methods.element, parts.sparsity.element], [panes]);
  frame.head.append(parts.notes.element);

  function current() {
    const index = nearest(data.grid, model.get("sparsity"));
    const chosen = method();
    const reached = index < chosen.points;
    const kept = chosen.kept && reached ? chosen.kept.map((counts) => counts[index]) : null;
    const selected = Math.max(0, layers.findIndex((layer) => layer.name === model.get("layer")));
    const scale = model.get("scale");
    return { index, sparsity: data.grid[index], chosen, reached, kept, selected, scale, all: kept && sum(kept) };
  }

  function update() {
    const now = current();
    const asked = roundHalfEven((1 - now.sparsity) * total);
    parts.methods.show(now.chosen.id);
    parts.sparsity.show(now, asked, total);
    parts.notes.update(now, asked);
    parts.table.update(now);
    const levels = now.kept && now.chosen.levels[now.selected];
    parts.picture.update(layers[now.selected], levels, now.kept && now.kept[now.selected], now.index);
  }

  function spoken() {
    const now = current();
    if (!now.reached) return `${now.chosen.title}: ${limitOf(now, digits)}`;
    if (now.kept === null) return "";
    const gone = now.kept.filter((n) => n === 0).length;
    const layer = layers[now.selected];
    return (
      `${now.chosen.title}, ${percent(now.sparsity, digits)} removed: ${count(now.all)} of ${count(total)} weights kept. ` +
      (gone ? `${gone} of ${layers.length} layers keep no weight. ` : "") +
      `${layer.label} keeps ${count(now.kept[now.selected])} of ${count(layer.size)}.`
    );
  }

  const end = frame.run(el, ["data", "method", "sparsity", "layer", "scale"], update, spoken);
  parts.table.reveal();
  const stop = parts.picture.watch();
  return () => {
    end();
    stop();
  };
}

/** The sparsity, with how many weights are kept. */
function sparsitySlider(data, digits, choose) {
  const words = { less: "Remove fewer weights", more: "Remove more weights", ticks: sparsityTicks(data.grid) };
  const { element, label, side, show } = slider(words, data.grid, choose);
  const [removed, kept, of] = [h("strong"), h("strong"), h("span")];
  label.append(h("span", { class: "pv-hidden" }, "Sparsity: "), removed, " removed");
  side.append(kept, of);
  return {
    element,
    show(now, asked, total) {
      const [share, n] = [percent(now.sparsity, digits), now.all ?? asked];
      write(removed, share);
      write(kept, count(n));
      const rest = ` of ${count(total)} weights ${now.kept ? "kept" : "to keep"}`;
      write(of, rest);
      show(now.index, `${share} removed, ${count(n)}${rest}`);
    },
  };
}

/** Layers with the name that is shown: without an ending that they all share. */
function named(layers) {
  const shared = layers.every((layer) => layer.name.endsWith(".weight"));
  return layers.map((layer) => ({
    axes: ["outputs", "inputs"],
    ...layer,
    label: shared ? layer.name.slice(0, -".weight".length) : layer.name,
  }));
}

/** What a link may ask for. */
function choices(data) {
  const layers = data.layers.map((l) => l.name);
  return { method: data.methods.map((m) => m.id), sparsity: data.grid, layer: layers, scale: Object.keys(SCALES) };
}

export default { render, choices };
