// Why SNIP and GraSP agree or disagree about a weight, in sentences, from its numbers alone.

import { ofWeights, signed } from "./facts.js";

const SMALL = 50; // percent of all weights with a smaller value: below it a factor is called small

/** [[kind, text], ...]; `keeps` says for "snip" and "grasp" whether the weight is kept, `where` at which sparsity. */
export function reasons(w, keeps, where, temperature) {
  const lines = [verdict(keeps, where), ofSnip(w, keeps), ofGrasp(w, keeps), against(w, keeps)];
  return [...lines.map((text) => ["", text]), ["aside", truth(w, temperature)]];
}

function verdict(keeps, where) {
  if (keeps.snip && keeps.grasp) return `At ${where} removed, SNIP and GraSP both keep this weight.`;
  if (keeps.snip) return `At ${where} removed, SNIP keeps this weight and GraSP removes it.`;
  if (keeps.grasp) return `At ${where} removed, GraSP keeps this weight and SNIP removes it.`;
  return `At ${where} removed, neither SNIP nor GraSP keeps this weight.`;
}

function ofSnip(w, keeps) {
  const rank = `SNIP: |w g| is larger than that of ${ofWeights(w.snip.percent)} of all weights`;
  if (keeps.snip) return `${rank}. To first order the loss depends on it, in whichever direction.`;
  const only = (name, p) => (p < SMALL ? `${name} is larger than that of only ${ofWeights(p)}` : "");
  const small = [only("|g|", w.g_percent), only("|w|", w.magnitude.percent)].filter(Boolean);
  return small.length ? `${rank}: ${small.join(", and ")}.` : `${rank}, which is not enough here.`;
}

function ofGrasp(w, keeps) {
  const score = w.grasp.score;
  if (score === 0) return "GraSP: w (Hg) is 0. To first order the squared gradient norm does not depend on this weight.";
  if (score < 0) {
    const wish = "That is what GraSP wants; SNIP looks at no sign.";
    const stays = "That is what GraSP wants, but so few weights are removed that it stays.";
    const grows = "Without this weight the squared gradient norm grows, to first order.";
    return `GraSP: w and Hg have opposite signs. ${grows} ${keeps.grasp ? stays : wish}`;
  }
  const rank = `w (Hg) is larger than that of ${ofWeights(w.grasp.percent)} of all weights`;
  const shrinks = "Without this weight the squared gradient norm shrinks, to first order";
  const sign = `GraSP: w and Hg have the same sign. ${shrinks}`;
  return keeps.grasp ? `${sign}: ${rank}.` : `${sign}; but ${rank}, which is not enough here.`;
}

/** What divides the two, or not: the sign and the size of Hg beside g. */
function against(w, keeps) {
  const [ofG, ofHg] = [ofWeights(w.g_percent), ofWeights(w.hg_percent)];
  const sizes = `|g| is larger than that of ${ofG} of all weights, |Hg| than that of ${ofHg}`;
  if (keeps.snip && !keeps.grasp) {
    const sign = w.hg_percent < SMALL ? "the sign of Hg" : "the sign of Hg, not its size";
    const size = w.hg_percent < w.g_percent ? "the size of Hg" : "little";
    return `What divides them is ${w.grasp.score < 0 ? sign : size}: ${sizes}.`;
  }
  if (keeps.grasp && !keeps.snip) return `What divides them is ${w.g_percent < w.hg_percent ? "the size of g" : "little"}: ${sizes}.`;
  if (w.g === 0 || w.hg === 0) return `One of g and Hg is 0 here: ${sizes}.`;
  return `g and Hg have ${Math.sign(w.g) === Math.sign(w.hg) ? "the same sign" : "opposite signs"} here: ${sizes}.`;
}

/** What happens when the weight is removed alone, beside what GraSP expects. */
function truth(w, temperature) {
  const what = `Removed alone, it changes the squared gradient norm at temperature ${temperature}`;
  const real = `${what} by ${signed(w.flow_change)}; GraSP's first order says ${signed(w.flow_first)}.`;
  return w.flow_change * w.flow_first < 0 ? `${real} Even the sign is wrong: the first order holds for small steps.` : real;
}
