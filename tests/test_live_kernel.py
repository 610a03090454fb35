"""Live controls with a real kernel: what a notebook's front end sends and receives while something is computed."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

import pytest
from test_widgets_kernel import kernel, messages_of

from pruneviz.study.notebook import execute

__all__ = ["kernel"]  # the fixture

pytestmark = pytest.mark.slow

CODE = """
import threading, pruneviz as pv
gate = threading.Event()
gate.set()

def network(**keywords):
    gate.wait(60)
    return pv.models.create("mlp", width=0.1, **keywords)

shown = pv.widgets.live(
    pv.widgets.Depth, networks={"mlp": network}, per_class=(2, 5, 1000), methods=("snip", "grasp"), sparsity=0.9
)
shown
"""
# The same by the library alone.
EXPECTED = """
def expected(seed, per_class, init="kaiming_normal"):
    data = pv.data.load("digits")
    model = network(input_shape=data.input_shape, classes=data.classes, init=init, seed=seed)
    problem = pv.Problem(model, pv.data.scoring_batches(data, per_class=per_class, seed=seed))
    return pv.gradient_flow(problem, pv.prune(problem, "snip", 0.9)).norm_squared
"""


class FrontEnd:
    """What a browser knows of the widgets in a kernel: their state as messages have told it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.state: dict[str, dict[str, Any]] = {}
        self.bars: list[float] = []

    def names(self) -> dict[str, str]:
        names = ("network", "init", "per_class", "seed", "compute", "cancel", "bar", "message")
        found = self.ask(f"' '.join(getattr(shown, n).model_id for n in {names!r})").strip("'").split()
        return dict(zip(names, found, strict=True))

    def take(self, message: dict[str, Any]) -> None:
        if message["msg_type"] not in ("comm_open", "comm_msg"):
            assert message["msg_type"] not in ("error", "stream"), message["content"]
            return
        content = message["content"]
        state = content["data"].get("state", {})
        self.state.setdefault(content["comm_id"], {}).update(state)
        if isinstance(state.get("value"), float):
            self.bars.append(state["value"])

    def ask(self, code: str) -> str:
        """The value of an expression; messages of what happens meanwhile are taken too."""
        request, answers = self.client.execute(code), []

        def idle() -> bool:
            return bool(answers) and answers[-1]["content"].get("execution_state") == "idle"

        while not idle():
            message = self.client.get_iopub_msg(timeout=60)
            self.take(message)
            if message["parent_header"].get("msg_id") == request and message["msg_type"] in (
                "status",
                "execute_result",
            ):
                answers.append(message)
        return next(str(m["content"]["data"]["text/plain"]) for m in answers if m["msg_type"] == "execute_result")

    def send(self, model: str, **data: Any) -> None:
        self.client.shell_channel.send(self.client.session.msg("comm_msg", {"comm_id": model, "data": data}))

    def choose(self, model: str, **state: Any) -> None:
        self.send(model, method="update", state=state, buffer_paths=[])

    def until(self, what: Callable[[], bool], seconds: float = 60) -> None:
        """Take messages, of whatever request, until something is so."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self.state
            try:
                self.take(self.client.get_iopub_msg(timeout=1))
            except queue.Empty:
                continue


def start(client: Any) -> tuple[FrontEnd, dict[str, str], str]:
    front = FrontEnd(client)
    answers = messages_of(client, client.execute(CODE))
    shown = next(m["content"]["data"] for m in answers if m["msg_type"] == "execute_result")
    for message in answers:
        front.take(message)
    box = shown["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert 'data-pv-widget="depth"' in shown["text/html"]
    messages_of(client, client.execute(EXPECTED))
    return front, front.names(), box


def picture_in(front: FrontEnd, box: str) -> dict[str, Any]:
    """The data of the interaction that the box shows last."""
    return dict(front.state[front.state[box]["children"][-1].removeprefix("IPY_MODEL_")]["data"])


def norm_in(front: FrontEnd, box: str) -> float:
    return float(picture_in(front, box)["entries"]["snip"][3]["total"])


def test_a_change_is_computed_while_the_kernel_answers(kernel: Any) -> None:
    front, names, box = start(kernel)
    assert f"{norm_in(front, box):.4g}" == f"{float(front.ask('expected(0, 2)')):.4g}"
    front.ask("gate.clear() or 0")
    front.choose(names["seed"], value=5)
    front.until(lambda: front.state[names["cancel"]]["disabled"] is False)
    assert front.ask("1 + 1") == "2"  # the kernel is free
    assert norm_in(front, box) == float(f"{norm_in(front, box):.4g}")
    front.bars.clear()
    front.ask("gate.set() or 0")
    front.until(lambda: str(front.state[names["message"]]["value"]).endswith("seed 5"))
    assert front.state[names["message"]]["value"] == "Shown: mlp, kaiming_normal, 2 images per class, seed 5"
    assert front.bars == sorted(front.bars)
    assert f"{norm_in(front, box):.4g}" == f"{float(front.ask('expected(5, 2)')):.4g}"


def test_a_click_cancels_and_an_error_is_said(kernel: Any) -> None:
    front, names, box = start(kernel)
    before = picture_in(front, box)
    front.ask("gate.clear() or 0")
    front.choose(names["seed"], value=5)
    front.until(lambda: front.state[names["cancel"]]["disabled"] is False)
    front.send(names["cancel"], method="custom", content={"event": "click"})
    front.until(lambda: str(front.state[names["message"]]["value"]).startswith("Cancelled"))
    front.ask("gate.set() or 0")
    assert front.ask("shown.wait(60)") == "True"
    assert picture_in(front, box) == before
    assert front.state[names["compute"]]["disabled"] is False
    front.choose(names["per_class"], index=2)
    front.until(lambda: str(front.state[names["message"]]["value"]).startswith("Not computed: 1 x 1000"))
    assert picture_in(front, box) == before
    assert front.ask("shown.shown.seed, shown.shown.per_class") == "(0, 2)"


def test_an_executed_notebook_has_the_interaction_alone(tmp_path: Any) -> None:
    import nbformat

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(CODE)]
    nbformat.write(notebook, tmp_path / "in.ipynb")
    execute(tmp_path / "in.ipynb", tmp_path / "out.ipynb", progress=False)
    outputs = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[0].outputs
    assert [o["output_type"] for o in outputs] == ["execute_result"]
    shown = outputs[0]["data"]
    assert {"application/vnd.jupyter.widget-view+json", "text/html"} <= set(shown)
    assert shown["text/html"].count("data-pv-widget") == 1
    assert "Images per class" not in shown["text/html"]
