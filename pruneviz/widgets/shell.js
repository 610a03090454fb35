// The frame of every interaction: a section with a title, controls, a status line, and a voice for screen readers.
//
//   const { root, act, run } = shell(model, "depth", "Signal by depth", [controls...], [panes...]);
//   act("method", "snip")                  the reader has chosen: tells the model, and after a pause speaks
//   return run(el, ["data", "method"], update, spoken)
//
// `run` puts the section into `el`, calls `update` now and whenever one of these values changes, and returns
// what undoes it. `spoken()` is the sentence that a screen reader hears once the reader has stopped moving things.

import { h, write } from "./dom.js";

export function shell(model, kind, name, controls, panes) {
  const heading = h("p", { class: "pv-title" });
  const status = h("p", { class: "pv-status", role: "status" });
  const live = h("p", { class: "pv-hidden", "aria-live": "polite" });
  const head = h("div", { class: "pv-frame" }, heading, ...controls, status);
  const root = h("section", { class: `pv-explorer pv-${kind}` }, head, ...panes, live);
  // JupyterLab would take arrow keys, Enter and letters for its own commands.
  root.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey || event.altKey)) event.stopPropagation();
  });
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  let speech = () => "";
  let announcement = 0;

  function act(trait, value) {
    if (model.get(trait) === value) return;
    model.set(trait, value);
    model.save_changes();
    clearTimeout(announcement);
    announcement = setTimeout(() => write(live, speech()), 700);
  }

  function run(el, names, update, spoken) {
    speech = spoken;
    const follow = () => {
      const title = model.get("data").title || "";
      write(heading, title);
      heading.hidden = !title;
      root.setAttribute("aria-label", title ? `${name}: ${title}` : name);
      write(status, model.get("status") || "");
      update();
    };
    const events = [...names, "status"].map((trait) => `change:${trait}`);
    events.forEach((event) => model.on(event, follow));
    el.append(root);
    follow();
    return () => {
      events.forEach((event) => model.off(event, follow));
      clearTimeout(announcement);
    };
  }
  return { root, head, act, run };
}
