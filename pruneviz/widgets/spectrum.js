// The kernel's spectrum: eigenvalues of the masked network before the dense one's, or how much of the labels and of the
// residual the first eigenvectors carry.

import { chart } from "./chart.js";
import { pills } from "./controls.js";
import { count, h } from "./dom.js";
import { facts, figure, sentences, sparsitySlider } from "./facts.js";
import { nearest } from "./levels.js";
import { shell } from "./shell.js";

const VIEWS = { eigenvalues: "Eigenvalues", labels: "Labels", residual: "Residual" };
const WHAT = { labels: "labels", residual: "residual" };
const DECADES = 1e9; // below the largest eigenvalue, nothing is drawn
const share = (v) => `${(100 * v).toFixed(2)}\u202f%`;

function render({ model, el }) {
  const data = model.get("data");
  const options = data.methods.map((m) => ({ value: m.id, title: m.title }));
  const views = ["eigenvalues", ...data.along].map((value) => ({ value, title: VIEWS[value] }));
  const act = (name) => (value) => frame.act(name, value);
  const methods = pills("Weights are removed by", options, act("method"));
  const view = pills("Show", views, act("view"));
  const sparsity = sparsitySlider(data.grid, (name, value) => frame.act(name, value));
  const picture = chart();
  const table = facts("The spectrum in numbers");
  const words = sentences();
  const panes = [h("div", { class: "pv-beside" }, picture.element, h("div", {}, table.element, words.element))];
  const controls = [methods.element, view.element, sparsity.element];
  const frame = shell(model, "spectrum", "Spectrum of the neural tangent kernel", controls, panes);

  function current() {
    const all = model.get("data");
    const method = all.methods.find((m) => m.id === model.get("method"));
    const index = nearest(all.grid, model.get("sparsity"));
    const entry = all.entries[method.id][index];
    const name = `${method.title}, ${sparsity.text(all.grid[index])} removed`;
    return { ...all, method, index, entry, name, view: model.get("view"), reached: !("limit" in entry) };
  }

  function update() {
    const now = current();
    methods.show(now.method.id);
    view.show(now.view);
    sparsity.show(now.grid[now.index], now.reached ? now.entry.weights : null, now.total);
    picture.update(now.view === "eigenvalues" ? eigenvalues(now) : along(now));
    table.update(["", "Dense", now.method.title], numbers(now));
    words.update(said(now));
  }

  const spoken = () => {
    const now = current();
    return [`${now.name}.`, ...said(now).map(([, text]) => text)].join(" ");
  };
  const stop = frame.run(el, ["data", "method", "sparsity", "view"], update, spoken);
  const still = picture.watch();
  return () => {
    stop();
    still();
  };
}

/** The two series that are compared; the dense network's is behind. */
function pair(now, points) {
  const dense = { id: "dense", label: "Dense", color: "var(--pv-muted)", dash: "5 4", points: points(now.dense) };
  const masked = { id: "masked", label: now.name, color: "var(--pv-kept)", points: now.reached ? points(now.entry) : [] };
  return [dense, masked];
}

function eigenvalues(now) {
  const points = (entry) => now.ranks.map((x, i) => ({ x, y: entry.values[i] ?? NaN, at: i }));
  const every = [now.dense, ...now.methods.flatMap((m) => now.entries[m.id])].flatMap((entry) => entry.values || []);
  const seen = every.filter((v) => v !== null && v > 0);
  const most = Math.max(...seen);
  const range = [Math.max(Math.min(...seen), most / DECADES) / 1.5, most * 1.5];
  return {
    label: `Eigenvalues of the kernel. ${now.name}, and dense`,
    x: { label: "Eigenvalue, counted from the largest", domain: [0, now.side + 1] },
    y: { label: "Eigenvalue", scale: "log", domain: seen.length ? range : [0.1, 10] },
    series: pair(now, points),
    readout: (_, point) => ({
      title: `Eigenvalue ${point.x} of ${now.side}`,
      rows: both(now, (entry) => known(entry.values[point.at])),
    }),
    table: listed(now, "Eigenvalues", (entry, i) => known(entry.values[i])),
    empty: now.entry.limit,
  };
}

function along(now) {
  const points = (entry) => now.ranks.map((x, i) => ({ x, y: entry[now.view].shares[i] ?? NaN, at: i }));
  const alike = now.ranks.map((x, i) => ({ x, y: x / now.side, at: i }));
  const text = (entry, i) => (entry[now.view].shares[i] === null ? "0 eigenvalue" : share(entry[now.view].shares[i]));
  return {
    label: `Share of the ${WHAT[now.view]} along the first eigenvectors. ${now.name}, and dense`,
    x: { label: "Number of eigenvectors, from the largest eigenvalue", scale: "log", domain: [0.93, now.side * 1.07] },
    y: { label: `Share of the ${WHAT[now.view]}`, domain: [0, 1.02], format: (v) => `${Math.round(100 * v)}\u202f%` },
    series: [
      ...pair(now, points),
      { id: "alike", label: "in all directions alike", color: "var(--pv-muted)", dash: "1 3", points: alike },
    ],
    readout: (_, point) => ({
      title: `The first ${point.x} of ${now.side}`,
      rows: [...both(now, (entry) => text(entry, point.at)), ["in all directions alike", share(point.x / now.side)]],
    }),
    table: listed(now, `Share of the ${WHAT[now.view]} along the first eigenvectors`, text),
    empty: now.entry.limit,
  };
}

const known = (v) => (v === null ? "0 within rounding" : figure(v));

function both(now, text) {
  return [...(now.reached ? [[now.name, text(now.entry), true]] : []), ["Dense", text(now.dense), !now.reached]];
}

function listed(now, caption, text) {
  const columns = [now.dense, ...(now.reached ? [now.entry] : [])];
  const rows = now.ranks.map((rank, i) => [String(rank), ...columns.map((entry) => text(entry, i))]);
  return { caption, header: ["number", "Dense", now.name].slice(0, columns.length + 1), rows };
}

function numbers(now) {
  const row = (name, text) => [name, text(now.dense), now.reached ? text(now.entry) : "–"];
  const lead = now.ranks.indexOf(now.lead);
  const carried = (view) => (e) => (e[view].shares[lead] === null ? "–" : share(e[view].shares[lead]));
  return [
    row("Weights", (e) => count(e.weights)),
    row("Trace", (e) => figure(e.trace)),
    row("Condition number", (e) => (e.condition === null ? "infinite" : figure(e.condition))),
    row(`Effective rank, of ${count(now.side)}`, (e) => (e.effective === null ? "0" : figure(e.effective))),
    row("Eigenvalues that are 0", (e) => count(now.side - e.above)),
    ...now.along.map((view) => row(`${VIEWS[view]} in the first ${now.lead}`, carried(view))),
  ];
}

function said(now) {
  const { entry, dense } = now;
  if (!now.reached) return [["alert", `Not possible: ${entry.limit}.`]];
  const lines = [];
  if (entry.above === 0) lines.push(["alert", "The kernel is zero: no output depends on a weight that is left."]);
  else {
    const zero = now.side - entry.above;
    const trace = `The trace is ${figure(entry.trace_share)} times the dense network's.`;
    const spread = `The ${count(now.side)} eigenvalues are spread as if ${figure(entry.effective)} of them were equal`;
    lines.push(["", `${trace} ${spread} and the others 0 (dense: ${figure(dense.effective)}).`]);
    const are = `${count(zero)} ${zero === 1 ? "is" : "are"}`;
    if (zero) lines.push(["few", `${are} 0 within rounding, so that the condition number is infinite.`]);
  }
  const view = now.view;
  if (view !== "eigenvalues" && entry.above) {
    const outside = share(1 - entry[view].reach);
    const out = entry[view].reach < 1 ? ` Along none whose eigenvalue is not 0 lies ${outside}: it stays as it is.` : "";
    lines.push(["", `${MEANING[view]}${out}`]);
  }
  return lines;
}

const MEANING = {
  labels: "What of the labels lies along the first eigenvectors is learned first.",
  residual: "What of the residual lies along the first eigenvectors makes the loss fall fastest.",
};

/** What a link may ask for. */
function choices(data) {
  return { method: data.methods.map((m) => m.id), sparsity: data.grid, view: ["eigenvalues", ...data.along] };
}

export default { render, choices };
