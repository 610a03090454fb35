// One weight under the microscope: where SNIP and GraSP rank it among all weights, its numbers, and why they disagree.

import { picker } from "./controls.js";
import { count, h } from "./dom.js";
import { facts, figure, labels, ofWeights, sentences, signed, sparsitySlider } from "./facts.js";
import { nearest, roundHalfEven } from "./levels.js";
import { scopePlot } from "./scope_plot.js";
import { reasons } from "./scope_words.js";
import { shell } from "./shell.js";

function render({ model, el }) {
  const data = model.get("data");
  const names = labels(data.layers.map((layer) => layer.name));
  const sparsity = sparsitySlider(data.grid, (name, value) => frame.act(name, value));
  const options = data.layers.map((layer, i) => ({ value: layer.name, title: names[i] }));
  const layers = picker("Layer", options, (name) => look(name, 0));
  const weights = picker("Weight", [], (at) => frame.act("weight", at));
  const step = (by) => {
    const now = current();
    look(now.layer, (now.chosen + by + now.listed.length) % now.listed.length);
  };
  const button = (name, by) => h("button", { type: "button", class: "pv-scope-step", click: () => step(by) }, name);
  const walk = h("div", { class: "pv-scope-walk" }, button("‹ Previous weight", -1), button("Next weight ›", 1));
  const choice = h("div", { class: "pv-scope-choice" }, layers.element, weights.element, walk);
  const plot = scopePlot((index) => look(current().layer, index));
  const table = facts("The weight in numbers");
  const words = sentences();
  const panes = [h("div", { class: "pv-beside pv-scope-panes" }, h("div", {}, plot.element, words.element), table.element)];
  const frame = shell(model, "microscope", "One weight under the microscope", [choice, sparsity.element], panes);

  function look(layer, index) {
    frame.act("layer", layer);
    frame.act("weight", model.get("data").weights[layer][index].at);
  }

  function current() {
    const all = model.get("data");
    const layer = model.get("layer");
    const listed = all.weights[layer];
    const chosen = Math.max(0, listed.findIndex((w) => w.at === model.get("weight")));
    const index = nearest(all.grid, model.get("sparsity"));
    const weight = listed[chosen];
    const keeps = Object.fromEntries(all.judges.map(({ id }) => [id, weight[id].level > index]));
    const kept = roundHalfEven((1 - all.grid[index]) * all.total);
    return { ...all, layer, listed, chosen, index, weight, keeps, kept };
  }

  function update() {
    const now = current();
    const s = now.grid[now.index];
    sparsity.show(s, now.kept, now.total);
    layers.show(now.layer);
    weights.offer(now.listed.map((w, i) => ({ value: w.at, title: `${i + 1}: ${place(w)}` })));
    weights.show(now.weight.at);
    const both = now.both[now.index];
    const counts = { both, one: now.kept - both, none: now.total - 2 * now.kept + both };
    const name = names[now.layers.findIndex((layer) => layer.name === now.layer)];
    plot.update({ ...now, name, sparsity: s, counts, label: seen(now, counts) });
    table.update(["", "Value", "Larger than"], numbers(now));
    words.update(reasons(now.weight, now.keeps, sparsity.text(s), now.temperature));
  }

  const spoken = () => {
    const now = current();
    const why = reasons(now.weight, now.keeps, sparsity.text(now.grid[now.index]), now.temperature);
    return [`Weight ${place(now.weight)} of ${now.layer}.`, ...why.slice(0, 3).map(([, text]) => text)].join(" ");
  };
  const stop = frame.run(el, ["data", "sparsity", "layer", "weight"], update, spoken);
  const still = plot.watch();
  return () => {
    stop();
    still();
  };
}

const place = (w) => `[${w.index.join(", ")}]`;

/** The picture in words. */
function seen(now, counts) {
  const { snip, grasp } = now.weight;
  return (
    `Ranks of all weights by SNIP and by GraSP. Both keep ${count(counts.both)}, each alone ${count(counts.one)}, ` +
    `neither ${count(counts.none)}. The chosen weight: SNIP scores ${ofWeights(snip.percent)} of all weights lower, ` +
    `GraSP ${ofWeights(grasp.percent)}.`
  );
}

function numbers(now) {
  const w = now.weight;
  const mark = (id) => (now.keeps[id] ? "kept" : "removed");
  const judge = (id, name) => [`${name}, ${mark(id)}`, figure(w[id].score), ofWeights(w[id].percent)];
  return [
    [`Weight ${place(w)}`],
    ["w", figure(w.w), ofWeights(w.magnitude.percent)],
    ["Gradient g", figure(w.g), ofWeights(w.g_percent)],
    [`Hg, at temperature ${now.temperature}`, figure(w.hg), ofWeights(w.hg_percent)],
    ["Scores"],
    judge("snip", "SNIP |w g|"),
    judge("grasp", "GraSP w (Hg)"),
    judge("magnitude", "Magnitude |w|"),
    ["Removed alone"],
    ["Change of the loss", signed(w.loss_change), ""],
    ["  first order, −w g", signed(w.loss_first), ""],
    ["Change of |g|²", signed(w.flow_change), ""],
    ["  first order, −2 w (Hg)", signed(w.flow_first), ""],
  ];
}

/** What a link may ask for. */
function choices(data) {
  const listed = Object.values(data.weights).flat().map((w) => w.at);
  return { sparsity: data.grid, layer: data.layers.map((layer) => layer.name), weight: listed };
}

export default { render, choices };
