// The mask explorer: choose how weights are scored, drag the sparsity, see what is kept and where.
// The model gives `data` (layers, grid, methods with their levels) and the state `method`, `sparsity`, `layer`;
// it is a kernel's or a page's (page.js): nothing here knows which.

import { controls } from "./controls.js";
import { count, decimals, h, percent, write } from "./dom.js";
import { layerTable } from "./layer_table.js";
import { keptAt, nearest, roundHalfEven, split, toBytes } from "./levels.js";
import { maskFigure } from "./mask_figure.js";
import { notes } from "./notes.js";

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

function render({ model, el }) {
  const data = model.get("data");
  const layers = named(data.layers);
  const total = sum(layers.map((layer) => layer.size));
  const digits = decimals(data.grid);
  const known = new Map();
  let announcement = 0;

  /** A method's levels by layer and its counts by layer and grid index; null while the kernel still scores. */
  function method() {
    const chosen = model.get("data").methods.find((m) => m.id === model.get("method"));
    if (!known.has(chosen.id) && chosen.levels) {
      const levels = split(toBytes(chosen.levels), layers);
      known.set(chosen.id, { levels, kept: levels.map((part) => keptAt(part, chosen.points)) });
    }
    return { ...chosen, ...known.get(chosen.id) };
  }

  function act(name, value) {
    if (model.get(name) === value) return;
    model.set(name, value);
    model.save_changes();
    clearTimeout(announcement);
    announcement = setTimeout(() => write(parts.live, spoken()), 700);
  }

  const parts = {
    ...controls(data, digits, act, () => nearest(data.grid, model.get("sparsity"))),
    table: layerTable(layers, (index) => act("layer", layers[index].name)),
    picture: maskFigure(),
    status: h("p", { class: "pv-status", role: "status" }),
    notes: notes(layers, digits, (index) => {
      act("layer", layers[index].name);
      parts.table.focus(index);
    }),
    live: h("p", { class: "pv-hidden", "aria-live": "polite" }),
  };
  const title = data.title ? h("p", { class: "pv-title" }, data.title) : null;
  const root = h(
    "section",
    { class: "pv-explorer", "aria-label": `Mask explorer${data.title ? `: ${data.title}` : ""}` },
    h("div", { class: "pv-frame" }, title, parts.methods, parts.slider, parts.status, parts.notes.element),
    h("div", { class: "pv-panes" }, parts.table.element, parts.picture.element),
    parts.live,
  );
  // JupyterLab would take arrow keys, Enter and letters for its own commands.
  root.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey || event.altKey)) event.stopPropagation();
  });
  root.setAttribute("data-lm-suppress-shortcuts", "true");

  function current() {
    const index = nearest(data.grid, model.get("sparsity"));
    const chosen = method();
    const reached = index < chosen.points;
    const kept = chosen.kept && reached ? chosen.kept.map((counts) => counts[index]) : null;
    const selected = Math.max(0, layers.findIndex((layer) => layer.name === model.get("layer")));
    return { index, sparsity: data.grid[index], chosen, reached, kept, selected, all: kept && sum(kept) };
  }

  function update() {
    const now = current();
    const asked = roundHalfEven((1 - now.sparsity) * total);
    parts.show(now, asked, total);
    write(parts.status, model.get("status") || "");
    parts.notes.update(now, asked);
    parts.table.update(now);
    const levels = now.kept && now.chosen.levels[now.selected];
    parts.picture.update(layers[now.selected], levels, now.kept && now.kept[now.selected], now.index);
  }

  function spoken() {
    const now = current();
    if (now.kept === null) return "";
    const gone = now.kept.filter((n) => n === 0).length;
    const layer = layers[now.selected];
    return (
      `${now.chosen.title}, ${percent(now.sparsity, digits)} removed: ${count(now.all)} of ${count(total)} weights kept. ` +
      (gone ? `${gone} of ${layers.length} layers keep no weight. ` : "") +
      `${layer.label} keeps ${count(now.kept[now.selected])} of ${count(layer.size)}.`
    );
  }

  const events = ["data", "method", "sparsity", "layer", "status"].map((name) => `change:${name}`);
  events.forEach((event) => model.on(event, update));
  el.append(root);
  update();
  parts.table.reveal();
  const stop = parts.picture.watch();
  return () => {
    events.forEach((event) => model.off(event, update));
    clearTimeout(announcement);
    stop();
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

export default { render };
