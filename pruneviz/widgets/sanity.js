// The sanity ablations: a line for each method, with its accuracy as it is and after one of its decisions was undone.
// The model gives `data` (ablations, settings) and the state `dataset`, `network`, `training`, `sparsity`, `ablations`.

import { chart } from "./chart.js";
import { h, write } from "./dom.js";
import { settingChoices, settingPickers, sparsityPills, toggled } from "./settings.js";
import { shell } from "./shell.js";

function render({ model, el }) {
  const act = (name, value) => frame.act(name, value);
  const settings = settingPickers(model, act);
  const sparsities = sparsityPills(act);
  const picture = chart();
  const [words, missing] = [h("p", { class: "pv-words" }), h("p", { class: "pv-words pv-missing" })];
  const pickers = h("div", { class: "pv-pickers" }, ...settings.elements);
  const frame = shell(model, "sanity", "Sanity ablations", [pickers, sparsities.element, words], [picture.element, missing]);

  function toggle(id) {
    act("ablations", toggled(model.get("data").ablations.map((a) => a.id), model.get("ablations"), id));
  }

  function update() {
    const setting = settings.update();
    const now = sparsities.update(setting, model.get("sparsity"));
    write(words, now ? `${setting.words} ${now.note}` : "");
    write(missing, now ? now.missing : "");
    picture.update(now ? spec(model.get("data"), setting, now, model.get("ablations"), toggle) : NOTHING);
  }

  function spoken() {
    const setting = settings.update();
    const now = sparsities.update(setting, model.get("sparsity"));
    if (!now) return NOTHING.empty;
    return `${setting.dataset}, ${setting.network}, ${now.removed} removed: ${now.methods.length} methods. ${now.missing}`;
  }

  const end = frame.run(el, ["data", "dataset", "network", "training", "sparsity", "ablations"], update, spoken);
  const stop = picture.watch();
  return () => {
    end();
    stop();
  };
}

const NOTHING = { label: "Sanity ablations", series: [], x: {}, y: {}, empty: "There are no runs yet." };

function spec(data, setting, now, shown, toggle) {
  const run = data.ablations.filter(({ id }) => now.methods.some(({ values }) => values[id]));
  const series = run.map((ablation) => ({
    ...ablation,
    line: false,
    hidden: !shown.includes(ablation.id),
    points: now.methods.flatMap(({ method, values }, y) => {
      const value = values[ablation.id];
      return value ? [{ ...value, x: value.mean, y, text: `${method}, ${said(value)}` }] : [];
    }),
  }));
  const { dense } = setting;
  const rule = dense && { axis: "x", at: dense.mean, low: dense.low, high: dense.high, label: `Dense, ${said(dense)}` };
  return {
    label: `${data.label.replace(" (%)", " in percent")} at ${now.removed} removed, by method and ablation`,
    value: "x",
    aside: true,
    height: 66 + now.methods.length * (34 + 9 * run.length),
    x: { label: data.label },
    y: { scale: "names", names: now.methods.map((row) => row.method) },
    series,
    rules: rule ? [rule] : [],
    toggle,
    readout: (one, point) => readoutAt(data, now.methods[point.y], now.removed, one.id),
    table: { caption: `${now.removed} removed. ${now.note}`, header: data.header, rows: rowsOf(data, now) },
  };
}

function said(value) {
  const difference = value.difference ? `, difference ${value.difference} points, ${value.verdict}` : "";
  return `${value.text}\u202f%, n = ${value.n}${difference}`;
}

/** A method's values by ablation, with the differences to the method as it is, seed by seed. */
function readoutAt(data, { method, values }, removed, id) {
  const rows = data.ablations
    .filter((ablation) => values[ablation.id])
    .map((ablation) => {
      const { text, n, difference } = values[ablation.id];
      return [ablation.label, [text, String(n), difference], ablation.id === id];
    });
  return { title: `${method}, ${removed} removed`, header: [data.label, "n", "difference"], rows };
}

function rowsOf(data, now) {
  return now.methods.flatMap(({ method, values }) =>
    data.ablations.filter(({ id }) => id in values).map(({ id, label }) => {
      const value = values[id];
      const texts = value ? [value.text, String(value.n), value.difference, value.interval, value.verdict] : ["not run", "0", "", "", ""];
      return [method, label, ...texts];
    }),
  );
}

function choices(data) {
  return { ...settingChoices(data), ablations: data.ablations.map((a) => a.id) };
}

export default { render, choices };
