// Accuracy against the cost of training: each method at two places, with the operations on zeros and without them.
// The model gives `data` (methods, settings) and the state `dataset`, `network`, `training`, `sparsity`, `counted`,
// `methods`.

import { chart } from "./chart.js";
import { powerText } from "./chart_axes.js";
import { pills } from "./controls.js";
import { h, write } from "./dom.js";
import { settingChoices, settingPickers, sparsityPills, toggled } from "./settings.js";
import { shell } from "./shell.js";

const COUNTED = [
  { value: "both", title: "both" },
  { value: "hardware", title: "all, also those on zeros" },
  { value: "theory", title: "without zeros, in theory" },
];

function render({ model, el }) {
  const act = (name, value) => frame.act(name, value);
  const settings = settingPickers(model, act);
  const sparsities = sparsityPills(act);
  const counted = pills("Operations counted", COUNTED, (value) => act("counted", value));
  const picture = chart();
  const [words, missing] = [h("p", { class: "pv-words" }), h("p", { class: "pv-words pv-missing" })];
  const pickers = h("div", { class: "pv-pickers" }, ...settings.elements);
  const controls = [pickers, sparsities.element, counted.element, words];
  const frame = shell(model, "cost", "Accuracy against the cost of training", controls, [picture.element, missing]);

  function toggle(id) {
    act("methods", toggled(model.get("data").methods.map((m) => m.id), model.get("methods"), id));
  }

  function update() {
    const setting = settings.update();
    const now = sparsities.update(setting, model.get("sparsity"));
    counted.show(model.get("counted"));
    counted.element.hidden = !now;
    write(words, now ? `${setting.words} ${now.note}` : "");
    write(missing, now ? now.missing : "");
    const state = { counted: model.get("counted"), methods: model.get("methods") };
    picture.update(now ? spec(model.get("data"), setting, now, state, toggle) : NOTHING);
  }

  function spoken() {
    const setting = settings.update();
    const now = sparsities.update(setting, model.get("sparsity"));
    if (!now) return NOTHING.empty;
    return `${setting.dataset}, ${setting.network}, ${now.removed} removed: ${now.points.length} methods. ${now.missing}`;
  }

  const names = ["data", "dataset", "network", "training", "sparsity", "counted", "methods"];
  const end = frame.run(el, names, update, spoken);
  const stop = picture.watch();
  return () => {
    end();
    stop();
  };
}

const NOTHING = { label: "Accuracy against cost", series: [], x: {}, y: {}, empty: "There are no runs yet." };
const WAYS = { hardware: "with zeros", theory: "without zeros" };

function spec(data, setting, now, { counted, methods }, toggle) {
  const ways = counted === "both" ? ["hardware", "theory"] : [counted];
  const mark = Object.fromEntries(data.methods.map((m) => [m.id, m]));
  const point = (p, way) => ({ ...p, accuracy: p.text, x: p[way], y: p.mean, way, text: `${WAYS[way]}: ${said(p, way)}` });
  const drawn = now.points.flatMap((p) => {
    const one = { ...mark[p.method], label: p.method, hidden: !methods.includes(p.method), line: false };
    const known = ways.filter((way) => p[way] !== null);
    // Of two places of the same accuracy one interval is enough: with zeros, methods stand on top of each other.
    const bare = (way) => (known.length > 1 && way === "hardware" ? { low: null, high: null } : {});
    const dot = (way) => ({
      ...one,
      id: `${p.method} ${way}`,
      hollow: way === "theory",
      quiet: true,
      points: [{ ...point(p, way), ...bare(way) }],
    });
    const ends = known.map((way) => ({ x: p[way], y: p.mean }));
    const link = { ...one, id: `${p.method} link`, marker: null, line: true, dash: "2 3", faint: true, points: ends };
    const key = { ...one, id: p.method, points: [] };
    return [{ ...link, quiet: true, silent: true }, ...known.map(dot), ...(known.length ? [key] : [])];
  });
  const { dense } = setting;
  const name = dense && `Dense, ${dense.text}\u202f%, n = ${dense.n}`;
  const whole = { id: "Dense", label: name, marker: "s", line: false, fixed: true };
  const unpruned = dense && dense.hardware !== null ? [{ ...whole, points: [point(dense, "hardware")] }] : [];
  const hollow = { label: "without zeros", marker: "o", hollow: true, line: false, points: [] };
  return {
    label: `${data.label.replace(" (%)", " in percent")} against operations, ${now.removed} removed`,
    x: { scale: "log", label: "floating-point operations of scoring and training (log scale)", format: powerText, apart: 60 },
    y: { label: data.label },
    series: [...drawn, ...unpruned, ...(counted === "hardware" ? [] : [hollow])],
    toggle,
    readout: (series, point) => readoutAt(data, point, now.removed),
    table: { caption: `${now.removed} removed. ${now.note} ${now.missing}`, header: data.header, rows: rowsOf(dense, now, methods) },
    empty: "No method is chosen.",
  };
}

function said(p, way) {
  return `${p[`${way}_text`]} operations, ${p.text}\u202f%, n = ${p.n}`;
}

function readoutAt(data, point, removed) {
  const rows = [
    [data.label, `${point.accuracy}, n = ${point.n}`, true],
    ["operations, all", point.hardware_text, point.way === "hardware"],
    ["without zeros", point.theory_text, point.way === "theory"],
    ["of which scoring", point.score_text, false],
  ];
  const pruned = point.method !== "Dense";
  return { title: pruned ? `${point.method}, ${removed} removed` : "Dense", rows: pruned ? rows : rows.slice(0, 2) };
}

function rowsOf(dense, now, methods) {
  const shown = [...(dense ? [dense] : []), ...now.points.filter((p) => methods.includes(p.method))];
  return shown.map((p) => [p.method, p.text, String(p.n), p.hardware_text, p.theory_text, p.score_text]);
}

function choices(data) {
  return { ...settingChoices(data), counted: COUNTED.map((one) => one.value) };
}

export default { render, choices };
