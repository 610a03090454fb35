// The loader of a static page: finds the widgets' places, reads their inline data, and gives `render` a model
// with the four functions that a kernel's model has. What a reader chose is kept in the address, so that a
// picture can be linked to: page.html#mask-explorer=grasp,0.98,conv1.weight
// A list's items are joined by plus signs: page.html#accuracy=cifar10,resnet20,SNIP+GraSP

/** Start every widget on the page. What cannot start leaves its plain table standing. */
export function start(widgets) {
  const run = () => {
    const seen = {};
    for (const host of document.querySelectorAll("[data-pv-widget]")) {
      const kind = host.dataset.pvWidget;
      seen[kind] = (seen[kind] || 0) + 1;
      const name = kind.replaceAll("_", "-");
      mount(widgets[kind], host, seen[kind] === 1 ? name : `${name}-${seen[kind]}`);
    }
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", run);
  else run();
}

function mount(widget, host, key) {
  const { state, ...data } = JSON.parse(host.querySelector("script[type='application/json']").textContent);
  const known = (texts) => accepted(widget.choices(data), texts, state);
  const model = pageModel({ data, status: "", ...state, ...known(read(key)) });
  const names = Object.keys(state);
  let pending = 0;
  model.on("save", () => {
    // After the last of many moves: browsers slow down pages that rewrite their address all the time.
    clearTimeout(pending);
    pending = setTimeout(() => remember(key, names.map((name) => model.get(name))), 200);
  });
  const el = document.createElement("div");
  host.append(el);
  widget.render({ model, el });
  host.classList.add("pv-ready");
  host.querySelector(".pv-fallback")?.remove();
  window.addEventListener("hashchange", () => {
    const wanted = known(read(key));
    Object.entries(wanted).forEach(([name, value]) => model.set(name, value));
    if (Object.keys(wanted).length) host.scrollIntoView({ block: "nearest" });
  });
  if (read(key).length) host.scrollIntoView({ block: "nearest" });
}

/** get, set, on, off and save_changes, as a kernel's model has them. */
function pageModel(values) {
  const listeners = new Map();
  const tell = (event) => [...(listeners.get(event) || [])].forEach((listener) => listener());
  return {
    get: (name) => values[name],
    set(name, value) {
      if (values[name] === value) return;
      values[name] = value;
      tell(`change:${name}`);
    },
    on: (event, listener) => listeners.set(event, [...(listeners.get(event) || []), listener]),
    off: (event, listener) => listeners.set(event, (listeners.get(event) || []).filter((l) => l !== listener)),
    save_changes: () => tell("save"),
  };
}

/** The address's parts after #, as [key, text] pairs. */
function parts() {
  return location.hash.slice(1).split("&").filter((part) => part.includes("=")).map((part) => part.split("="));
}

/** What the address says of one widget: its values in order, still as it is written there. */
function read(key) {
  const found = parts().find(([name]) => name === key);
  return found ? found[1].split(",") : [];
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a percent sign that somebody typed
  }
}

/** A value as the address has it: commas and plus signs inside are escaped, those between values and items are not. */
function encoded(value) {
  const text = (item) => encodeURIComponent(item).replaceAll("%3A", ":");
  return Array.isArray(value) ? value.map(text).join("+") : text(value);
}

/** Write one widget's values into the address; other widgets' stay, and the history does not grow. */
function remember(key, values) {
  const others = parts().filter(([name]) => name !== key).map((part) => part.join("="));
  history.replaceState(history.state, "", `#${[...others, `${key}=${values.map(encoded).join(",")}`].join("&")}`);
}

/**
 * The values that a widget knows, by name; an old or mistyped link changes nothing else. `choices` has for each name of
 * the state the values that it can have, or a function from a text to the value, undefined if there is none. A state
 * that is a list holds any number of the choices.
 */
function accepted(choices, texts, state) {
  const wanted = {};
  Object.keys(state).forEach((name, i) => {
    if (texts[i] === undefined) return;
    const value = Array.isArray(state[name])
      ? listed(choices[name], texts[i])
      : texts[i] && chosen(choices[name], decoded(texts[i]));
    if (value !== undefined && value !== "") wanted[name] = value;
  });
  return wanted;
}

function chosen(choices, text) {
  if (typeof choices === "function") return choices(text);
  return choices.find((choice) => String(choice) === text || (typeof choice === "number" && choice === Number(text)));
}

/** The known ones of several; undefined if something is there and nothing of it is known. */
function listed(choices, text) {
  const items = text ? text.split("+").map((item) => chosen(choices, decoded(item))) : [];
  const known = items.filter((item) => item !== undefined);
  return items.length && !known.length ? undefined : known;
}
