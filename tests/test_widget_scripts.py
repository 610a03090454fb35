"""The widgets' JavaScript and styles as files: joined without a build step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pruneviz.widgets import bundle, page

WIDGETS = Path(bundle.__file__).parent


def top_level_names(text: str) -> list[str]:
    return re.findall(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", text, re.MULTILINE)


@pytest.mark.parametrize("kind", bundle.WIDGETS)
def test_the_joined_modules_share_no_names(kind: str) -> None:
    """In a page's script the second of two functions would silently take the place of the first."""
    names = top_level_names(bundle.es_module(kind))
    assert len(names) > 5
    assert sorted(names) == sorted(set(names))


def test_the_page_loader_shares_no_names() -> None:
    names = top_level_names(bundle.classic(()))
    assert sorted(names) == sorted(set(names))


def test_every_kind_has_a_class_and_every_class_a_kind() -> None:
    import pruneviz.widgets as widgets

    classes = [getattr(widgets, name) for name in widgets.__all__ if name[0].isupper() and name != "Interaction"]
    assert sorted(cls.kind for cls in classes) == sorted(bundle.WIDGETS)
    assert sorted(WIDGETS.joinpath(f"{kind}.js").is_file() for kind in bundle.WIDGETS) == [True] * len(classes)


@pytest.mark.parametrize("kind", bundle.WIDGETS)
def test_every_kind_says_what_a_link_may_ask_for(kind: str) -> None:
    assert bundle.es_module(kind).rstrip().endswith("export default { render, choices };")


def test_a_live_widget_is_one_module_that_imports_nothing() -> None:
    text = bundle.es_module("mask_explorer")
    assert re.findall(r"^(?:import|export)\b.*", text, re.MULTILINE) == ["export default { render, choices };"]
    # Each source is there once, the imported before the importing.
    order = [text.index(f"function {name}(") for name in ("h", "keptAt", "paint", "layerTable", "render")]
    assert text.count("function keptAt(") == 1
    assert order[-1] == max(order)


def test_the_page_script_is_a_classic_script() -> None:
    files = page.assets()
    assert set(files) == {"pruneviz-widgets.js", "pruneviz-widgets.css"}
    assert not re.search(r"^\s*(?:import|export)\b", files["pruneviz-widgets.js"], re.MULTILINE)
    assert "return { render, choices };" in files["pruneviz-widgets.js"]
    assert "</script" not in files["pruneviz-widgets.js"]


def test_what_cannot_be_joined_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "FOLDER", tmp_path)
    (tmp_path / "a.js").write_text('import * as b from "./b.js";\nexport default { render, choices };\n')
    with pytest.raises(ValueError, match="import \\* as b"):
        bundle.es_module("a")
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\nexport default { b };\n')
    (tmp_path / "b.js").write_text('import { a } from "./a.js";\nexport const b = 1;\n')
    with pytest.raises(ValueError, match="imports itself"):
        bundle.es_module("a")
    (tmp_path / "b.js").write_text("export const b = 1;\nexport async function c() {}\n")
    assert bundle.es_module("a") == "const b = 1;\nasync function c() {}\n\nexport default { b };\n"


def test_all_classes_are_our_own() -> None:
    """A theme and a notebook have classes too: ours all begin with pv-."""
    ours = re.compile(r"\.([a-zA-Z][\w-]*)")
    theirs = {"bd-content", "cell_output", "text_html"}
    style = re.sub(r"/\*.*?\*/|\{[^{}]*\}", "", bundle.style(page=True), flags=re.DOTALL)
    assert {name for name in ours.findall(style) if not name.startswith("pv-")} <= theirs
    for source in WIDGETS.glob("*.js"):
        for names in re.findall(r'class: "([^"]+)"', source.read_text(encoding="utf-8")):
            assert all(name.startswith("pv-") for name in names.split())


def test_assets_need_no_notebook_packages() -> None:
    """A site that already has fragments is built without anywidget."""
    import subprocess
    import sys

    code = "import sys; sys.modules['anywidget'] = None; from pruneviz.widgets import page; assert page.assets()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
