// Axes of a chart: where a value lies, as a share of the axis's length, and which values are written below it.

import { h } from "./dom.js";

const TRANSFORM = {
  linear: (v) => v,
  log: (v) => Math.log10(v),
  // A sparsity lies at the logarithm of the ratio of all weights to those that remain: 90 %, 99 % and 99.9 % are
  // equally far apart.
  density: (v) => -Math.log10(1 - v),
  names: (v) => v,
};
const ALONE = { linear: 1, log: 0.5, density: 0.3, names: 0.5 };
const CHARACTER = 6.6; // the width of a digit at 12 pixels

/** An axis over `values` that is `length` pixels long: { at(value) → 0..1 or NaN, ticks: [{ at, text }], width }. */
export function placed(axis, values, length) {
  const move = TRANSFORM[axis.scale || "linear"];
  const [low, high] = ends(axis, values.map(move).filter(Number.isFinite));
  const share = (v) => (move(v) - low) / (high - low);
  const at = axis.down ? (v) => 1 - share(v) : share;
  const inside = (v) => at(v) > -1e-6 && at(v) < 1 + 1e-6;
  const ticks = wanted(axis, low, high, values, length).filter(([v]) => inside(v)).map(([v, text]) => ({ at: at(v), text }));
  return { at, ticks, width: Math.max(0, ...ticks.map((tick) => tick.text.length)) * CHARACTER };
}

function ends(axis, moved) {
  if (axis.scale === "names") return [-0.5, axis.names.length - 0.5];
  if (axis.domain) return axis.domain.map(TRANSFORM[axis.scale || "linear"]);
  if (!moved.length) return [0, 1];
  const [low, high] = [Math.min(...moved), Math.max(...moved)];
  const room = low === high ? ALONE[axis.scale || "linear"] : 0.06 * (high - low);
  return [low - room, high + room];
}

/** Which values have a tick, with their texts, those that matter most first; no two are too close. */
function wanted(axis, low, high, values, length) {
  if (axis.scale === "names") return axis.names.map((name, i) => [i, name]);
  const apart = axis.apart || 44;
  if (axis.ticks) return thinned(axis, axis.ticks, low, high, length, apart);
  if (axis.scale === "density") {
    const all = [...new Set(values)].map((v) => [v, axis.format ? axis.format(v) : sparsityText(v)]);
    const short = all.sort((a, b) => a[1].length - b[1].length || a[0] - b[0]);
    return thinned(axis, short, low, high, length, apart);
  }
  const format = axis.format || (axis.scale === "log" ? powerText : null);
  if (axis.scale !== "log") return steps(low, high, length, apart, format);
  return thinned(axis, powers(low, high, length, apart, format), low, high, length, apart);
}

function thinned(axis, ticks, low, high, length, apart) {
  const move = TRANSFORM[axis.scale || "linear"];
  const kept = [];
  for (const [v, text] of ticks) {
    const far = ([other]) => (Math.abs(move(v) - move(other)) / (high - low)) * length >= apart;
    if (kept.every(far)) kept.push([v, text]);
  }
  return kept;
}

function steps(low, high, length, apart, format) {
  const rough = ((high - low) * apart) / length;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough * 0.999);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const count = Math.floor(high / step + 1e-9) - Math.ceil(low / step - 1e-9) + 1;
  return Array.from({ length: Math.max(0, count) }, (_, i) => {
    const v = Number(((Math.ceil(low / step - 1e-9) + i) * step).toFixed(digits));
    return [v, format ? format(v) : v.toFixed(digits).replace("-", "−")];
  });
}

function powers(low, high, length, apart, format) {
  const [first, last] = [Math.floor(low), Math.ceil(high)];
  const every = Math.max(1, Math.ceil((apart * (high - low)) / length));
  const within = high - low < 2 ? [1, 2, 5] : [1]; // the powers of ten first
  const decades = Array.from({ length: last - first + 1 }, (_, i) => first + i).filter((e) => e % every === 0);
  const inside = (v) => Math.log10(v) >= low && Math.log10(v) <= high;
  return within.flatMap((m) => decades.map((e) => Number(`${m}e${e}`))).filter(inside).map((v) => [v, format(v)]);
}

const sparsityText = (s) => `${Number((100 * s).toFixed(3))}\u202f%`;

/** A number of any size in a few characters: 0.02, 500, 2,000, 10⁻⁵, 2 × 10⁹. */
export function powerText(v) {
  if (v === 0) return "0";
  const e = Math.floor(Math.log10(Math.abs(v)) + 1e-9);
  if (e >= -3 && e <= 3) return Number(v.toPrecision(12)).toLocaleString("en-US", { maximumFractionDigits: 12 });
  const m = Number((v / 10 ** e).toPrecision(3));
  const power = `10${String(e).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)])}`;
  return m === 1 ? power : `${m} × ${power}`;
}

/** A label in lines of at most `width` pixels. */
export function linesOf(label, width) {
  const most = Math.max(12, Math.floor(width / CHARACTER));
  return (label || "").split(" ").filter(Boolean).reduce((lines, word) => {
    const last = lines[lines.length - 1];
    if (lines.length && last.length + 1 + word.length <= most) return [...lines.slice(0, -1), `${last} ${word}`];
    return [...lines, word];
  }, []);
}

/** Grid lines, ticks and labels in a box { left, top, width, height }, for axes that `placed` has made. */
export function drawAxes(box, [x, y], spec) {
  const bottom = box.top + box.height;
  const line = (kind, x1, y1, x2, y2) => h("svg:line", { class: kind, x1, y1, x2, y2 });
  const text = (kind, at, words) => h("svg:text", { class: `pv-chart-${kind}`, ...at }, words);
  const parts = [];
  for (const tick of y.ticks) {
    const at = bottom - tick.at * box.height;
    parts.push(line("pv-chart-grid", box.left, at, box.left + box.width, at));
    parts.push(
      spec.y.scale === "names"
        ? text("name", { x: box.left, y: at - spec.rise }, tick.text)
        : text("tick", { x: box.left - 6, y: at + 4, "text-anchor": "end" }, tick.text),
    );
  }
  parts.push(line("pv-chart-axis", box.left, bottom, box.left + box.width, bottom));
  for (const tick of x.ticks) {
    const at = box.left + tick.at * box.width;
    parts.push(line("pv-chart-axis", at, bottom, at, bottom + 4));
    const half = (tick.text.length * CHARACTER) / 2;
    const inside = Math.min(Math.max(at, half), box.left + box.width + box.right - half);
    parts.push(text("tick", { x: inside, y: bottom + 17, "text-anchor": "middle" }, tick.text));
  }
  const below = (words, i) => text("label", { x: box.left + box.width, y: bottom + 36 + 15 * i, "text-anchor": "end" }, words);
  parts.push(...linesOf(spec.x.label, box.left + box.width).map(below));
  if (spec.y.label) parts.push(text("label", { x: 0, y: 12 }, spec.y.label));
  return h("svg:g", { "aria-hidden": "true" }, ...parts);
}
