// A matrix of pairs: each cell is a button with its number, and the stronger its shade the larger the number.

import { h, write } from "./dom.js";

const MANY = 4; // more columns have no room for their names side by side

/** `choose(row, column)` on a click or Enter; arrow keys go from cell to cell. Returns { element, update }. */
export function matrix(titles, choose) {
  const cell = (r, c) => h("button", { type: "button", class: "pv-cell", click: () => choose(r, c) });
  const cells = titles.map((_, r) => titles.map((_, c) => (r === c ? null : cell(r, c))));
  const boxed = (button) => h("td", {}, button || h("span", { class: "pv-cell-self" }, "1"));
  const row = (title, r) => h("tr", {}, h("th", { scope: "row" }, title), ...cells[r].map(boxed));
  const table = h(
    "table",
    { class: titles.length > MANY ? "pv-matrix pv-matrix-many" : "pv-matrix", keydown: (event) => move(event) },
    h("caption", { class: "pv-hidden" }, "Agreement of each pair. A cell is a button that shows the pair layer by layer."),
    h("thead", {}, h("tr", {}, h("td"), ...titles.map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, ...titles.map(row)),
  );
  const element = h("div", { class: "pv-matrix-frame" }, table);
  let focus = [1, 0];

  function move(event) {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    const from = cells.flatMap((line, r) => line.flatMap((button, c) => (button === event.target ? [[r, c]] : [])))[0];
    if (!step || !from) return;
    event.preventDefault();
    let [r, c] = [from[0] + step[0], from[1] + step[1]];
    if (r === c) [r, c] = [r + step[0], c + step[1]]; // over the diagonal
    if (!cells[r]?.[c]) return;
    reach([r, c]);
    cells[r][c].focus();
  }

  /** The one cell that the Tab key stops at. */
  function reach(at) {
    focus = at;
    const index = (r, c) => (r === at[0] && c === at[1] ? 0 : -1);
    cells.forEach((line, r) => line.forEach((button, c) => button && (button.tabIndex = index(r, c))));
  }

  /** `found[row][column]` is { value, text, words }, value from -1 to 1 or null; `chosen` is a [row, column]. */
  function update(found, chosen) {
    cells.forEach((line, r) =>
      line.forEach((button, c) => {
        if (!button) return;
        const { value, text, words } = found[r][c];
        write(button, text);
        button.setAttribute("aria-label", words);
        button.style.setProperty("--pv-shade", Math.abs(value || 0));
        button.classList.toggle("pv-cell-minus", value !== null && value < 0);
        const on = (r === chosen[0] && c === chosen[1]) || (r === chosen[1] && c === chosen[0]);
        button.setAttribute("aria-pressed", String(on));
      }),
    );
    if (!element.contains(element.getRootNode().activeElement)) reach(chosen);
    else reach(focus);
  }
  return { element, update };
}
