// Agreement of methods: a matrix of all pairs, and the layers of the pair that is chosen.

import { chart } from "./chart.js";
import { pills } from "./controls.js";
import { count, h, percent, write } from "./dom.js";
import { labels, sentences, sparsitySlider } from "./facts.js";
import { nearest } from "./levels.js";
import { matrix } from "./matrix.js";
import { shell } from "./shell.js";

const MEASURES = { jaccard: "Jaccard index", rank: "Rank correlation" };
const total = (numbers) => numbers.reduce((a, b) => a + b, 0);
/** 0.312 -> "0.312", -0.02 -> "−0.020" */
const ratio = (v) => (v === null ? "–" : v.toFixed(3).replace("-", "−"));

function render({ model, el }) {
  const data = model.get("data");
  const measures = data.measures.map(({ id, title }) => ({ value: id, title }));
  const measure = pills("Compare", measures, (id) => frame.act("measure", id));
  const sparsity = sparsitySlider(data.grid, (name, value) => frame.act(name, value));
  const pairs = matrix(data.methods.map((m) => m.title), (row, column) => {
    frame.act("first", data.methods[row].id);
    frame.act("second", data.methods[column].id);
  });
  const picture = chart();
  const heading = h("h3", { class: "pv-pair" });
  const words = sentences();
  const layers = h("div", { class: "pv-pair-layers" }, heading, words.element, picture.element);
  const panes = [h("div", { class: "pv-beside pv-halves" }, pairs.element, layers)];
  const frame = shell(model, "agreement", "Agreement of methods", [measure.element, sparsity.element], panes);

  function current() {
    const all = model.get("data");
    const index = nearest(all.grid, model.get("sparsity"));
    const at = (name) => Math.max(0, all.methods.findIndex((m) => m.id === model.get(name)));
    const ends = [at("first"), at("second")];
    if (ends[0] === ends[1]) ends[1] = ends[0] ? 0 : 1; // a link that names one method twice
    const [a, b] = ends.map((i) => all.methods[i]);
    const pair = found(all, a.id, b.id);
    const which = model.get("measure");
    return { ...all, index, ends, a, b, pair, cut: pair.cuts[index], which, names: labels(all.layers.map((l) => l.name)) };
  }

  function update() {
    const now = current();
    measure.show(now.which);
    const kept = now.a.kept[now.index];
    sparsity.element.hidden = now.which === "rank"; // it would change nothing
    sparsity.show(now.grid[now.index], kept && total(kept), total(now.layers.map((l) => l.size)));
    pairs.update(now.methods.map((a) => now.methods.map((b) => (a === b ? null : cell(now, a, b)))), now.ends);
    write(heading, `${now.a.title} and ${now.b.title}`);
    words.update(phrases(now, sparsity.text(now.grid[now.index])));
    picture.update(byLayer(now));
  }

  const spoken = () => {
    const now = current();
    const lines = phrases(now, sparsity.text(now.grid[now.index]));
    return [`${now.a.title} and ${now.b.title}.`, ...lines.map(([, text]) => text)].join(" ");
  };
  const stop = frame.run(el, ["data", "measure", "sparsity", "first", "second"], update, spoken);
  const still = picture.watch();
  return () => {
    stop();
    still();
  };
}

function found(data, a, b) {
  return data.pairs.find((p) => (p.first === a && p.second === b) || (p.first === b && p.second === a));
}

/** What the matrix holds of two methods: { value, text, words }. */
function cell(now, a, b) {
  const pair = found(now, a.id, b.id);
  const value = now.which === "rank" ? pair.rank && pair.rank.all : (pair.cuts[now.index].jaccard ?? null);
  return { value, text: ratio(value), words: `${a.title} and ${b.title}: ${value === null ? "not known" : ratio(value)}` };
}

function phrases(now, where) {
  if (now.which === "rank") {
    const steps = "A method that prunes in several steps has no one order of all weights.";
    if (now.pair.rank === null) return [["aside", steps]];
    const all = now.pair.rank.all;
    const meaning = "1 is the same order, 0 none in common, −1 the reverse.";
    const same = `The rank correlation of their scores is ${ratio(all)}: ${meaning}`;
    const aside = "It knows no sparsity: all weights count, also those that both masks remove.";
    return [["", all === null ? "One of them scores all weights alike." : same], ["aside", aside]];
  }
  if ("limit" in now.cut) return [["alert", `Not possible at ${where}: ${now.cut.limit}.`]];
  const both = `Of the weights that at least one of them keeps at ${where}, both keep ${percent(now.cut.jaccard, 1)}.`;
  const random = `Masks with as many weights in each layer, in random places, share ${percent(now.cut.chance, 1)}.`;
  const lines = [["", `${both} ${random}`]];
  const empty = now.names.filter((_, i) => now.a.kept[now.index][i] + now.b.kept[now.index][i] === 0);
  if (empty.length) lines.push(["alert", `Neither keeps anything of ${empty.join(", ")}, which counts as agreement there.`]);
  return lines;
}

/** The chosen pair in each layer, the input's on top. */
function byLayer(now) {
  const rank = now.which === "rank";
  const cuts = rank ? (now.pair.rank ? now.pair.rank.layers : []) : now.cut.layers || [];
  const known = cuts.some((v) => (rank ? v : v.jaccard) !== null);
  const dot = (of) => (v, i) => ({ x: of(v) ?? NaN, y: i, at: i, text: `${now.names[i]}: ${ratio(of(v))}` });
  const both = { id: "both", label: "the two methods", color: "var(--pv-kept)", marker: "o", line: false };
  const chance = { id: "chance", label: "random places", color: "var(--pv-muted)", marker: "D", hollow: true, line: false };
  const kept = (method, i) => `${count(method.kept[now.index][i])} of ${count(now.layers[i].size)}`;
  const rows = (i) => rank ? [[MEASURES.rank, ratio(cuts[i]), true]] : [
    [MEASURES.jaccard, ratio(cuts[i].jaccard), true],
    ["in random places", ratio(cuts[i].chance)],
    [`kept by ${now.a.title}`, kept(now.a, i)],
    [`kept by ${now.b.title}`, kept(now.b, i)],
  ];
  return {
    label: `${MEASURES[now.which]} of ${now.a.title} and ${now.b.title} by layer`,
    x: { label: MEASURES[now.which], domain: rank ? [-1.03, 1.03] : [-0.02, 1.02] },
    y: { scale: "names", names: now.names },
    value: "x",
    height: 62 + 46 * now.names.length,
    series: !known ? [] : rank
      ? [{ ...both, points: cuts.map(dot((v) => v)) }]
      : [{ ...chance, points: cuts.map(dot((v) => v.chance)) }, { ...both, points: cuts.map(dot((v) => v.jaccard)) }],
    rules: known && rank ? [{ axis: "x", at: 0, dash: "1 3", color: "var(--pv-muted)" }] : [],
    readout: (_, point) => ({ title: now.names[point.at], rows: rows(point.at) }),
    table: {
      caption: `${MEASURES[now.which]} of ${now.a.title} and ${now.b.title} by layer`,
      header: rank ? ["layer", MEASURES.rank] : ["layer", MEASURES.jaccard, "in random places", now.a.title, now.b.title],
      rows: cuts.map((_, i) => [now.names[i], ...rows(i).map(([, text]) => text)]),
    },
    empty: "There is nothing to compare.",
  };
}

/** What a link may ask for. */
function choices(data) {
  const methods = data.methods.map((m) => m.id);
  return { measure: data.measures.map((m) => m.id), sparsity: data.grid, first: methods, second: methods };
}

export default { render, choices };
