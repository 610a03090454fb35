// Gradients and signals by depth: one measure of every layer, of the masked network before the dense one's.

import { chart } from "./chart.js";
import { pills } from "./controls.js";
import { count, h } from "./dom.js";
import { facts, figure, labels, sentences, sparsitySlider } from "./facts.js";
import { nearest } from "./levels.js";
import { shell } from "./shell.js";

const MEASURES = {
  gradient: {
    axis: "Squared gradient norm",
    meaning: "The sum of squared derivatives of the loss over the weights that a layer keeps.",
  },
  forward: { axis: "Mean square of the output", meaning: "The mean square of a layer's output, over inputs and units." },
  backward: {
    axis: "Mean square of the derivative",
    meaning: "The mean square of the loss's derivative by a layer's output, over inputs and units.",
  },
  dead: { axis: "Dead units", meaning: "Units that are 0 for every input, after the layer's activation function." },
};
const LETTER = 7; // pixels of a letter in a layer's name, and a little more

function render({ model, el }) {
  const data = model.get("data");
  const act = (name) => (value) => frame.act(name, value);
  const option = ({ id, title }) => ({ value: id, title });
  const measure = pills("Show of each layer", data.measures.map(option), act("measure"));
  const methods = pills("Weights are removed by", data.methods.map(option), act("method"));
  const sparsity = sparsitySlider(data.grid, (name, value) => frame.act(name, value));
  const picture = chart();
  const table = facts("The whole network in numbers");
  const words = sentences();
  const panes = [h("div", { class: "pv-beside" }, picture.element, h("div", {}, table.element, words.element))];
  const controls = [measure.element, methods.element, sparsity.element];
  const frame = shell(model, "depth", "Gradients and signals by depth", controls, panes);

  function current() {
    const all = model.get("data");
    const method = all.methods.find((m) => m.id === model.get("method"));
    const index = nearest(all.grid, model.get("sparsity"));
    const entry = all.entries[method.id][index];
    const which = model.get("measure");
    const layers = labels(which === "gradient" ? all.layers : all.uses);
    const name = `${method.title}, ${sparsity.text(all.grid[index])} removed`;
    const names = labels(all.layers);
    return { ...all, method, index, entry, name, names, which, layers, reached: !("limit" in entry) };
  }

  function update() {
    const now = current();
    measure.show(now.which);
    methods.show(now.method.id);
    sparsity.show(now.grid[now.index], now.reached ? total(now.entry.kept) : null, total(now.sizes));
    picture.update(drawn(now));
    table.update(["", "Dense", now.method.title], summary(now));
    words.update(told(now));
  }

  const spoken = () => {
    const now = current();
    return [`${now.name}.`, ...told(now).map(([, text]) => text)].join(" ");
  };
  const stop = frame.run(el, ["data", "measure", "method", "sparsity"], update, spoken);
  const still = picture.watch();
  return () => {
    stop();
    still();
  };
}

const total = (numbers) => numbers.reduce((a, b) => a + b, 0);
const shareOf = (n, of) => `${((100 * n) / of).toFixed(1)}\u202f%`;

/** What is written of one layer. */
function written(now, entry, i) {
  if (now.which === "dead") return `${count(entry.dead[i])} of ${count(now.units[i])}`;
  return entry[now.which][i] === null ? "not finite" : figure(entry[now.which][i]);
}

function drawn(now) {
  const dead = now.which === "dead";
  const axis = dead ? shares(now) : sizes(now);
  const heights = (entry) => (dead ? entry.dead.map((n, i) => n / now.units[i]) : entry[now.which]);
  // Nothing is at the bottom of a logarithmic axis, with a sign of its own.
  const point = (v, x) => (v === 0 && !dead ? { x, y: axis.domain[0], sign: "x" } : { x, y: v ?? NaN });
  const points = (entry) => heights(entry).map(point);
  const last = now.layers.length - 1;
  const longest = Math.max(...now.layers.map((name) => name.length));
  const order = [0, last, ...now.layers.keys()].filter((i, at, all) => all.indexOf(i) === at);
  const columns = [["Dense", now.dense], ...(now.reached ? [[now.name, now.entry]] : [])];
  const behind = { id: "dense", label: "Dense", color: "var(--pv-muted)", dash: "5 4", marker: "o", hollow: true };
  const front = { id: "masked", label: now.name, color: "var(--pv-kept)", marker: "o" };
  const kept = (i) => ["Weights kept", `${count(now.entry.kept[i])} of ${count(now.sizes[i])}`];
  return {
    label: `${MEASURES[now.which].axis} by layer. ${now.name}, and dense`,
    x: {
      label: "Layer, from input to output",
      domain: [-0.4, last + 0.4],
      ticks: order.map((i) => [i, now.layers[i]]),
      apart: LETTER * longest + 12,
    },
    y: axis,
    series: [
      { ...behind, points: points(now.dense) },
      { ...front, points: now.reached ? points(now.entry) : [] },
    ],
    readout: (series, { x }) => ({
      title: now.layers[x],
      rows: [
        ...columns.map(([name, entry]) => [name, written(now, entry, x), (series.id === "dense") === (name === "Dense")]),
        ...(now.reached && now.which === "gradient" ? [kept(x)] : []),
      ],
    }),
    table: {
      caption: `${MEASURES[now.which].axis} by layer`,
      header: ["layer", ...columns.map(([name]) => name)],
      rows: now.layers.map((name, i) => [name, ...columns.map(([, entry]) => written(now, entry, i))]),
    },
  };
}

/** A logarithmic axis on which every sparsity has room, so that the slider moves the picture and not the axis. */
function sizes(now) {
  const entries = [now.dense, ...now.entries[now.method.id]];
  const seen = entries.flatMap((entry) => entry[now.which] || []).filter((v) => v > 0);
  const [low, high] = seen.length ? [Math.min(...seen), Math.max(...seen)] : [1, 1];
  return { label: MEASURES[now.which].axis, scale: "log", domain: [low / 2.5, high * 2] };
}

function shares(now) {
  return { label: MEASURES[now.which].axis, domain: [0, 1.03], format: (v) => `${Math.round(100 * v)}\u202f%` };
}

function summary(now) {
  const row = (name, text) => [name, text(now.dense), now.reached ? text(now.entry) : "–"];
  const units = total(now.units);
  return [
    row("Squared gradient norm", (e) => figure(e.total)),
    row("Loss", (e) => figure(e.loss)),
    row("Dead units", (e) => `${count(total(e.dead))} (${shareOf(total(e.dead), units)})`),
  ];
}

function told(now) {
  if (!now.reached) return [["alert", `Not possible: ${now.entry.limit}.`]];
  const lines = [];
  const gone = now.names.filter((_, i) => now.entry.kept[i] === 0);
  if (gone.length) lines.push(["alert", `Layer collapse: nothing is left of ${gone.join(", ")}. A cross stands for 0.`]);
  if (now.entry.share !== null) {
    lines.push(["", `The squared gradient norm is ${figure(now.entry.share)} times the dense network's.`]);
  }
  lines.push(["aside", MEASURES[now.which].meaning]);
  return lines;
}

/** What a link may ask for. */
function choices(data) {
  return { measure: data.measures.map((m) => m.id), method: data.methods.map((m) => m.id), sparsity: data.grid };
}

export default { render, choices };
