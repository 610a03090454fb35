// What a reader must not overlook, in words and with a sign.

import { count, h, icon, percent } from "./dom.js";
import { signOf } from "./layer_table.js";

const NAMED = 3;

/** Why the chosen method has no mask at the sparsity. */
export const limitOf = (now, digits) => `Not possible at ${percent(now.sparsity, digits)}: ${now.chosen.limit}.`;

/** The notes' place; `show(index)` is called when the reader picks a layer that a note names. */
export function notes(layers, digits, show) {
  const element = h("div", { class: "pv-notes" });
  let said = "";

  /** Say what there is to say of this state; the same words are not written again. */
  function update(now, asked) {
    const lines = sentences(now, asked);
    const saying = JSON.stringify(lines);
    if (saying === said) return;
    said = saying;
    element.replaceChildren(...lines.map(line));
  }

  function sentences(now, asked) {
    if (!now.reached) return [{ kind: "alert", text: limitOf(now, digits) }];
    if (now.kept === null) return []; // the status says what is being computed
    const marked = (sign) => layers.flatMap((layer, i) => (signOf(now.kept[i], layer) === sign ? [i] : []));
    const [gone, few, lines] = [marked("alert"), marked("few"), []];
    if (gone.length) {
      const text = gone.length === 1
        ? "1 layer keeps no weight, so nothing passes through it: "
        : `${gone.length} layers keep no weight, so nothing passes through them: `;
      lines.push({ kind: "alert", strong: "Layer collapse. ", text, names: gone });
    }
    if (few.length) {
      const text = few.length === 1
        ? "1 layer keeps fewer weights than it has outputs."
        : `${few.length} layers keep fewer weights than they have outputs.`;
      lines.push({ kind: "few", text });
    }
    if (now.all !== asked) {
      const text = `Each layer is cut alone: rounding in each makes ${count(now.all)} in all instead of ${count(asked)}.`;
      lines.push({ kind: "few", text });
    }
    const fine = "Every layer keeps at least as many weights as it has outputs.";
    return lines.length ? lines : [{ kind: "fine", text: fine }];
  }

  function line({ kind, strong = "", text, names = [] }) {
    const buttons = names.slice(0, NAMED).flatMap((index, i) => [
      i ? ", " : "",
      h("button", { type: "button", class: "pv-link", click: () => show(index) }, layers[index].label),
    ]);
    const end = names.length > NAMED ? ` and ${names.length - NAMED} more.` : names.length ? "." : "";
    const words = h("span", {}, h("strong", {}, strong), text, ...buttons, end);
    return h("p", { class: `pv-note pv-note-${kind}` }, icon(kind), words);
  }

  return { element, update };
}
