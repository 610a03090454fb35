// The loader of a static page: finds the widgets' places, reads their inline data, and gives `render` a model
// with the four functions that a kernel's model has. What a reader chose is kept in the address, so that a
// picture can be linked to: page.html#mask-explorer=grasp,0.98,conv1.weight

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
  const model = pageModel({ data, status: "", ...state, ...accepted(data, read(key), state) });
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
    const wanted = accepted(data, read(key), state);
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

/** What the address says of one widget: its values in order, still as text. */
function read(key) {
  const found = parts().find(([name]) => name === key);
  return found ? found[1].split(",").map(decoded) : [];
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a percent sign that somebody typed
  }
}

/** Write one widget's values into the address; other widgets' stay, and the history does not grow. */
function remember(key, values) {
  const text = values.map((value) => encodeURIComponent(value).replaceAll("%3A", ":")).join(",");
  const others = parts().filter(([name]) => name !== key).map((part) => part.join("="));
  history.replaceState(history.state, "", `#${[...others, `${key}=${text}`].join("&")}`);
}

/** The values that this widget's data know; an old or mistyped link changes nothing else. */
function accepted(data, texts, state) {
  const choices = { method: data.methods.map((m) => m.id), sparsity: data.grid, layer: data.layers.map((l) => l.name) };
  const wanted = {};
  Object.keys(state).forEach((name, i) => {
    const value = texts[i] && choices[name].find((choice) => String(choice) === texts[i] || choice === Number(texts[i]));
    if (value !== undefined && value !== "") wanted[name] = value;
  });
  return wanted;
}
