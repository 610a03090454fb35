"""Live controls in JupyterLab itself: its server, its front end in a real browser, and a kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from charts import PICTURE
from test_live_kernel import CODE, EXPECTED

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# What the picture must show, by the library without any widget.
NORMS = f"""
{EXPECTED}
[f"{{expected(seed, 2, init):.3g}}" for init, seed in (("kaiming_normal", 0), ("orthogonal", 0), ("orthogonal", 7))]
"""
RUN_ALL = """async () => {
  const context = window.jupyterapp.shell.currentWidget.sessionContext;
  await context.ready;
  await context.session.kernel.info;
  await window.jupyterapp.commands.execute("notebook:run-all-cells");
}"""
# Another cell, as it were, while something is computed.
TELL = """async (code) => {
  await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code }).done;
}"""
SECONDS = 120


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a notebook on a server, with its token; the server's settings are nobody's."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells = [nbformat.v4.new_code_cell(code.strip()) for code in (CODE, NORMS)]
    work = folder / "work"
    work.mkdir()
    nbformat.write(notebook, work / "live.ipynb")
    places = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "RUNTIME", "DATA")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port=0"]
    command += ["--expose-app-in-browser", f"--ServerApp.root_dir={work}", "--LabApp.news_url=None"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, f"--LabApp.user_settings_dir={folder}", f"--LabApp.workspaces_dir={folder}"],
            env=os.environ | places,
            stdout=log,
            stderr=log,
        )
    try:
        yield address(server, folder)
    finally:
        server.terminate()
        server.wait(30)


def address(server: subprocess.Popen[bytes], folder: Path) -> str:
    """Where the server answers, once it does; it may take any free port."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and server.poll() is None:
        for file in (folder / "runtime").glob("jpserver-*.json"):
            try:
                told = json.loads(file.read_text())
            except json.JSONDecodeError:  # half written
                continue
            return f"{told['url']}lab/tree/live.ipynb?token={told['token']}"
        time.sleep(0.1)
    raise AssertionError((folder / "log").read_text())


def measured(view: Locator) -> str:
    """The squared gradient norm of the masked network, to three digits."""
    row = view.locator("tr", has_text="Squared gradient norm").filter(has=view.page.locator("td")).last
    return f"{float(row.locator('td').last.inner_text()):.3g}"


def picture(view: Locator) -> str:
    """What is drawn."""
    return str(view.evaluate(PICTURE))


def says(view: Locator, text: str) -> None:
    view.get_by_text(text).first.wait_for()


def test_controls_compute_anew_and_can_be_cancelled(page: Page, lab: str) -> None:
    page.set_default_timeout(SECONDS * 1000)
    page.goto(lab)
    page.locator(".jp-Notebook .jp-CodeCell").nth(1).wait_for()
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")
    page.evaluate(RUN_ALL)
    view = page.locator(".jp-OutputArea-output .widget-vbox").first
    says(view, "Shown: mlp, kaiming_normal, 2 images per class, seed 0")
    norms = page.locator(".jp-OutputArea-executeResult pre").last
    norms.wait_for()
    expected = json.loads(norms.inner_text().replace("'", '"'))
    assert len(set(expected)) == 3
    assert measured(view) == expected[0]
    first = picture(view)

    view.get_by_label("Initialization").select_option("orthogonal")
    says(view, "Shown: mlp, orthogonal, 2 images per class, seed 0")
    second = picture(view)
    assert (measured(view), second != first) == (expected[1], True)

    cancel = view.get_by_role("button", name="Cancel")
    assert cancel.is_disabled()
    page.evaluate(TELL, "gate.clear()")
    view.get_by_label("Seed").fill("7")
    view.get_by_label("Seed").press("Enter")
    says(view, "Making the network")
    view.locator(".progress").wait_for()
    assert picture(view) == second  # until the new one is there
    cancel.click()
    says(view, "Cancelled. Shown: mlp, orthogonal, 2 images per class, seed 0")
    assert (measured(view), picture(view)) == (expected[1], second)

    page.evaluate(TELL, "gate.set()")
    view.get_by_role("button", name="Compute").click()
    says(view, "Shown: mlp, orthogonal, 2 images per class, seed 7")
    assert (measured(view), picture(view) != second) == (expected[2], True)

    view.get_by_label("Images per class").select_option("1000")
    says(view, "Not computed: 1 x 1000")
    assert measured(view) == expected[2]
