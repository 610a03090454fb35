// Accuracy against sparsity: ours with intervals, what others have published beside it.
// The model gives `data` (methods, settings) and the state `dataset`, `network`, `training`, `methods`, `theirs`.

import { chart } from "./chart.js";
import { h, write } from "./dom.js";
import { settingChoices, settingPickers, toggled } from "./settings.js";
import { shell } from "./shell.js";

const THEIRS = "published";

function render({ model, el }) {
  const settings = settingPickers(model, (name, value) => frame.act(name, value));
  const picture = chart();
  const words = h("p", { class: "pv-words" });
  const pickers = h("div", { class: "pv-pickers" }, ...settings.elements);
  const frame = shell(model, "accuracy", "Accuracy against sparsity", [pickers, words], [picture.element]);

  function toggle(id) {
    if (id === THEIRS) return frame.act("theirs", !model.get("theirs"));
    frame.act("methods", toggled(model.get("data").methods.map((m) => m.id), model.get("methods"), id));
  }

  function update() {
    const now = settings.update();
    const data = model.get("data");
    write(words, now ? `${now.words} ${now.note}` : "");
    picture.update(now ? spec(data, now, model.get("methods"), model.get("theirs"), toggle) : NOTHING);
  }

  function spoken() {
    const now = settings.update();
    if (!now) return NOTHING.empty;
    const count = now.series.filter((s) => model.get("methods").includes(s.method)).length;
    return `${now.dataset}, ${now.network}: ${count} of ${now.series.length} methods shown.`;
  }

  const end = frame.run(el, ["data", "dataset", "network", "training", "methods", "theirs"], update, spoken);
  const stop = picture.watch();
  return () => {
    end();
    stop();
  };
}

const NOTHING = { label: "Accuracy", series: [], x: {}, y: {}, empty: "There are no runs yet." };

/** What the chart shows of a setting. */
function spec(data, now, methods, theirs, toggle) {
  const mark = Object.fromEntries(data.methods.map((m) => [m.id, m]));
  const pruned = theirs ? now.published.filter((p) => p.method !== "Dense") : [];
  const shown = [...new Set([...now.series, ...pruned].map((s) => s.method))];
  const ours = shown.map((id) => ({
    ...mark[id],
    label: id,
    hidden: !methods.includes(id),
    ...(now.series.some((s) => s.method === id) ? {} : { hollow: true, line: false }), // published only
    points: meansOf(now.series.find((s) => s.method === id)),
  }));
  const papers = pruned.map((p) => ({
    ...mark[p.method],
    id: `${THEIRS} ${p.paper} ${p.method}`,
    label: `${p.method}, published`,
    paper: p.paper,
    group: p.method,
    hollow: true,
    line: false,
    quiet: true,
    hidden: !methods.includes(p.method),
    points: p.points.map((point) => ({ ...point, x: point.sparsity, y: point.mean, text: said(point, p.paper) })),
  }));
  const key = { id: THEIRS, label: "published", marker: "o", hollow: true, line: false, hidden: !theirs, points: [] };
  return {
    label: `${data.label.replace(" (%)", " in percent")} against sparsity`,
    x: { scale: "density", label: "weights removed (log scale of those that remain)" },
    y: { label: data.label },
    aside: true,
    series: [...ours, ...papers, ...lost(now, methods), ...(now.published.length ? [key] : [])],
    rules: rulesOf(now, theirs),
    toggle,
    readout: (series, point) => readoutAt({ ...now, label: data.label }, methods, theirs, series, point),
    table: tableAt(data, now, methods, theirs),
    empty: "No method is chosen.",
  };
}

function meansOf(series) {
  return (series ? series.points : []).map((p) => ({ ...p, x: p.sparsity, y: p.mean, text: `${p.removed} removed, ${textOf(p)}` }));
}

const textOf = (p) => `${p.text}\u202f%, n = ${p.n}${p.lost.length ? `, ${p.lost.length} diverged` : ""}`;
const said = (p, paper) => `${p.removed} removed, ${p.text}\u202f%${p.more ? `, ${p.more}` : ""}, ${paper}`;

/** Runs that diverged, each where it ended. */
function lost(now, methods) {
  const crosses = now.series.flatMap((s) => {
    const points = s.points.flatMap((p) =>
      p.lost.map((y) => ({ x: p.sparsity, y, sign: "x", removed: p.removed, text: `${p.removed} removed, one run` })),
    );
    const one = { id: `diverged ${s.method}`, group: s.method, label: `${s.method}, diverged`, line: false, quiet: true };
    return points.length ? [{ ...one, hidden: !methods.includes(s.method), points }] : [];
  });
  return crosses.length ? [...crosses, { label: "diverged", marker: "x", line: false, points: [] }] : [];
}

function rulesOf(now, theirs) {
  const rule = (p, label, more) => ({ axis: "y", at: p.mean, low: p.low, high: p.high, label, ...more });
  const ours = now.dense ? [rule(now.dense, `Dense, ${textOf(now.dense)}`)] : [];
  const dense = theirs ? now.published.filter((p) => p.method === "Dense") : [];
  return [...ours, ...dense.map((p) => rule(p.points[0], `Dense, published: ${p.points[0].text}\u202f%`, { dash: "2 3" }))];
}

/** All values at the sparsity of a point: a line for each method, ours beside what was published. */
function readoutAt(now, methods, theirs, series, point) {
  const at = (of) => of.flatMap((s) => s.points.filter((p) => p.sparsity === point.x).map((p) => ({ ...p, method: s.method, paper: s.paper })));
  const ours = at(now.series);
  const papers = theirs ? at(now.published) : [];
  const counts = new Set(ours.map((p) => p.n));
  const lines = methods.flatMap((method) => {
    const mine = ours.find((p) => p.method === method);
    const other = papers.filter((p) => p.method === method);
    if (!mine && !other.length) return [];
    const text = mine ? `${mine.text}${counts.size > 1 ? `, n = ${mine.n}` : ""}` : "";
    const values = papers.length ? [text, other.map((p) => p.text).join(", ")] : [text];
    const height = mine ? mine.mean : other[0].mean - 100; // ours first
    return [{ height, line: [method, values, method === (series.group ?? series.id)] }];
  });
  const named = [...new Set(papers.map((p) => p.paper))].join("; ");
  return {
    title: `${point.removed} removed: ${now.label}${counts.size === 1 ? `, n = ${[...counts][0]}` : ""}`,
    header: papers.length ? ["ours", "published"] : undefined,
    rows: lines.sort((a, b) => b.height - a.height).map(({ line }) => line),
    foot: named && `published: ${named}`,
  };
}

/** Columns stay when methods go; those of published numbers alone go with them. */
function tableAt(data, now, methods, theirs) {
  const rows = now.rows.filter((row) => theirs || !row.theirs);
  const used = (_, column) => rows.some((row) => row.cells[column]);
  const wanted = (row) => row.method === "Dense" || methods.includes(row.method);
  return {
    caption: `${data.label}. ${now.note}`,
    header: now.header.filter(used),
    rows: rows.filter(wanted).map((row) => row.cells.filter(used)),
  };
}

function choices(data) {
  return { ...settingChoices(data), theirs: [true, false] };
}

export default { render, choices };
