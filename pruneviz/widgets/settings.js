// Settings of a table of results: a data set, a network and a training, chosen in three lists.

import { picker, pills } from "./controls.js";

const LABELS = { dataset: "Data set", network: "Network", training: "Training" };
const NAMES = Object.keys(LABELS);

/** The setting that has what is wanted, or the nearest that there is; null of an empty table. */
export function settingOf(data, wanted) {
  const fits = (setting) => NAMES.map((name) => (setting[name] === wanted[name] ? 1 : 0)).join("");
  return data.settings.reduce((best, setting) => (best && fits(best) >= fits(setting) ? best : setting), null);
}

/** The three lists; one with a single entry is not shown, because it would do nothing. */
export function settingPickers(model, act) {
  const wanted = () => Object.fromEntries(NAMES.map((name) => [name, model.get(name)]));

  function choose(changed) {
    const found = settingOf(model.get("data"), { ...wanted(), ...changed });
    NAMES.forEach((name) => act(name, found[name]));
  }

  const pickers = NAMES.map((name) => picker(LABELS[name], [], (value) => choose({ [name]: value })));

  /** Follow the model; returns the setting that is shown. */
  function update() {
    const data = model.get("data");
    const now = settingOf(data, wanted());
    NAMES.forEach((name, i) => {
      const open = data.settings.filter((setting) => NAMES.slice(0, i).every((other) => setting[other] === now[other]));
      const values = [...new Set(open.map((setting) => setting[name]))];
      pickers[i].offer(values.map((value) => ({ value, title: value })));
      pickers[i].element.hidden = values.length < 2;
      if (now) pickers[i].show(now[name]);
    });
    return now;
  }
  return { elements: pickers.map((p) => p.element), update };
}

/** The sparsities of a setting; one alone is not shown, because there is nothing to choose. */
export function sparsityPills(act) {
  const { element, offer, show } = pills("Weights removed", [], (sparsity) => act("sparsity", sparsity));

  /** Follow the model; returns what is shown at the sparsity nearest to the one wanted, or null. */
  function update(setting, wanted) {
    const found = setting ? setting.sparsities : [];
    const far = (entry) => Math.abs(entry.sparsity - wanted);
    const now = found.reduce((best, entry) => (best && far(best) <= far(entry) ? best : entry), null);
    offer(found.map((entry) => ({ value: entry.sparsity, title: entry.removed })));
    element.hidden = found.length < 2;
    if (now) show(now.sparsity);
    return now;
  }
  return { element, update };
}

/** Turn one of a list on or off; the order is that of `all`. */
export function toggled(all, shown, id) {
  return all.filter((one) => shown.includes(one) !== (one === id));
}

/** What a link may ask for. */
export function settingChoices(data) {
  const values = (name) => data.settings.map((setting) => setting[name]);
  const chosen = Object.fromEntries(NAMES.map((name) => [name, values(name)]));
  const sparsity = data.settings.flatMap((setting) => (setting.sparsities || []).map((entry) => entry.sparsity));
  return { ...chosen, sparsity, methods: (data.methods || []).map((m) => m.id) };
}
