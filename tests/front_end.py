"""What a notebook's front end is for a widget's module: a model in the page, here without a kernel behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from pruneviz.widgets.interaction import Interaction

# `saved` has what was chosen each time that it was sent to the kernel; a page's `revive` makes the data what a kernel
# would send, where JSON cannot say it.
START = """async ([source, values]) => {
  const { render } = (await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })))).default;
  if (window.revive) values.data = window.revive(values.data);
  const listeners = [];
  window.saved = [];
  window.model = {
    get: name => values[name],
    set(name, value) {
      values[name] = value;
      listeners.filter(([event]) => event === `change:${name}`).forEach(([, f]) => f());
    },
    on: (event, f) => listeners.push([event, f]),
    off(event, f) { listeners.splice(listeners.findIndex(([e, g]) => e === event && g === f), 1); },
    save_changes() {
      const { data, status, ...chosen } = values;
      window.saved.push(chosen);
    },
  };
  window.listening = () => listeners.length;
  const el = document.body.appendChild(document.createElement("div"));
  window.cleanup = render({ model: window.model, el });
}"""


def start(page: Page, interaction: Interaction, data: Any, **chosen: Any) -> None:
    """Render the interaction's own module; the page then has `model`, `saved`, `listening()` and `cleanup()`."""
    page.evaluate(START, [str(interaction._esm), {"data": data, "status": "", **chosen}])
