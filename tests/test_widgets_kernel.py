"""The mask explorer with a real kernel: what a notebook's front end sends and receives."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pruneviz.study.notebook import _kernel_manager, execute

pytestmark = pytest.mark.slow

CODE = """
import torch, pruneviz as pv
model = pv.models.create("lenet5", input_shape=(1, 16, 16))
x = torch.randn(20, 1, 16, 16, generator=torch.Generator().manual_seed(0))
problem = pv.Problem(model, [(x, torch.arange(20) % 10)])
explorer = pv.widgets.MaskExplorer(problem, ("random:erk", "snip"), sparsity=0.9, static=False)
explorer
"""


@pytest.fixture
def kernel() -> Iterator[Any]:
    from jupyter_client.utils import run_sync

    manager = _kernel_manager()()
    run_sync(manager.start_kernel)()
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    yield client
    client.stop_channels()
    run_sync(manager.shutdown_kernel)(now=True)


def messages_of(client: Any, request: str, seconds: float = 120) -> list[dict[str, Any]]:
    """All that the kernel publishes in answer to a request, until it is idle again."""
    found: list[dict[str, Any]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return found
        found.append(message)
    pytest.fail(f"the kernel was not idle after {seconds} s")


def evaluate(client: Any, code: str) -> str:
    answers = messages_of(client, client.execute(code))
    assert not [m for m in answers if m["msg_type"] == "error"], answers
    return next(m["content"]["data"]["text/plain"] for m in answers if m["msg_type"] == "execute_result")


def levels_of(message: dict[str, Any], method: int) -> np.ndarray | None:
    """A method's levels in a widget message, whose binary parts travel beside its JSON."""
    path = ["data", "methods", method, "levels"]
    paths = message["content"]["data"]["buffer_paths"]
    return np.frombuffer(message["buffers"][paths.index(path)], np.uint8) if path in paths else None


def test_a_front_end_chooses_and_the_kernel_scores(kernel: Any) -> None:
    answers = messages_of(kernel, kernel.execute(CODE))
    assert not [m["content"] for m in answers if m["msg_type"] == "error"]
    shown = next(m["content"]["data"] for m in answers if m["msg_type"] == "execute_result")
    assert "<table>" in shown["text/html"]
    model = shown["application/vnd.jupyter.widget-view+json"]["model_id"]
    opened = next(m for m in answers if m["msg_type"] == "comm_open" and m["content"]["comm_id"] == model)
    state = opened["content"]["data"]["state"]
    assert "export default { render, choices };" in state["_esm"]
    assert levels_of(opened, 0) is not None
    assert levels_of(opened, 1) is None  # SNIP has not been asked for

    # What anywidget sends when the reader chooses SNIP and moves the slider.
    update = {"method": "update", "state": {"method": "snip", "sparsity": 0.98}, "buffer_paths": []}
    request = kernel.session.msg("comm_msg", {"comm_id": model, "data": update})
    kernel.shell_channel.send(request)
    sent = [
        m
        for m in messages_of(kernel, request["header"]["msg_id"])
        if m["msg_type"] == "comm_msg" and m["content"]["data"]["method"] == "update"
    ]
    words = [m["content"]["data"]["state"]["status"] for m in sent if "status" in m["content"]["data"]["state"]]
    assert words[0] == "Scoring the weights with SNIP …"
    assert words[-1] == ""
    arrived = next(m for m in sent if "data" in m["content"]["data"]["state"])
    data = arrived["content"]["data"]["state"]["data"]
    levels = levels_of(arrived, 1)
    assert levels is not None

    kept = int((levels > data["grid"].index(0.98)).sum())
    assert kept == round(0.02 * levels.size)
    assert evaluate(kernel, "pv.masks.kept(explorer.masks)") == str(kept)
    shown = "MaskExplorer(method='snip', sparsity=0.98, layer='conv2.weight', scale='logarithmic')"
    assert evaluate(kernel, "explorer") == shown


def test_papermill_keeps_both_forms(tmp_path: Any) -> None:
    """An executed notebook holds the live view and the HTML that a page shows."""
    import nbformat

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(CODE.replace(", static=False", ""))]
    nbformat.write(notebook, tmp_path / "in.ipynb")
    execute(tmp_path / "in.ipynb", tmp_path / "out.ipynb", progress=False)
    outputs = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[0].outputs
    bundle = next(o["data"] for o in outputs if o["output_type"] == "execute_result")
    assert {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"} <= set(bundle)
    assert 'data-pv-widget="mask_explorer"' in bundle["text/html"]
