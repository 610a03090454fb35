"""From sources to pages: the graph redoes what changed and nothing else, and never shows a stale page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

import pruneviz as pv
from pruneviz.errors import InputError
from pruneviz.study import archive, book, pages
from pruneviz.study.grid import read_grid
from pruneviz.study.locks import hold
from pruneviz.study.notebook import StepError
from pruneviz.widgets import page as widget_page

ROOT = Path(__file__).parent.parent
SITE = ROOT / "_build" / "html"
NAME = "one"


# Pages made from cards ------------------------------------------------------------------------------------


CARDS = {**pv.scorers(), **pv.baselines.cards()}


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_a_card_page_says_all_that_the_card_says(card: pv.Card) -> None:
    page = pages.card_page(card)
    facts = [card.title, card.effect, card.equation, card.source, card.cost, card.memory]
    for text in [*facts, *card.options, *card.options.values(), *card.disagreements, *card.deviations]:
        assert text in page
    assert f"{{cite:p}}`{card.citation}`" in page
    assert f"(method-{card.name})=" in page


def test_a_card_that_says_little_makes_a_page_without_empty_parts() -> None:
    page = pages.card_page(pv.Card(name="mine", title="Mine", effect="Keeps what I like."))
    assert "Keeps what I like." in page
    for absent in ("$$", "## ", "cite", "Cost", "Memory"):
        assert absent not in page
    assert "no data" in pages.card_page(replace(pv.scorers()["snip"], needs_data=False))


def test_the_overview_has_a_row_and_a_link_for_each() -> None:
    text = pages.overview(pv.scorers().values())
    for name, card in pv.scorers().items():
        assert f"/book/methods/{name}>" in text
        assert card.effect in text
    assert len(text.splitlines()) == 2 + len(pv.scorers())


def test_every_citation_has_an_entry() -> None:
    entries = re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.M)
    assert len(entries) == len(set(entries))
    cited = {card.citation for card in CARDS.values()}
    for page in [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]:
        for keys in re.findall(r"\{cite:?\w*\}`([^`]+)`", page.read_text(encoding="utf-8")):
            cited |= {key.strip() for key in keys.split(",")}
    assert cited <= set(entries)


# What is staged -------------------------------------------------------------------------------------------


def test_a_published_notebook_knows_nothing_of_the_machine(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("1", metadata={"papermill": {"duration": 1}, "tags": ["injected-parameters"]})
    cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": "<b>kept</b>"})]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata.update({"widgets": {"state": "long"}, "papermill": {"output_path": str(tmp_path)}})
    nbformat.write(notebook, tmp_path / "in.ipynb")
    pages.publish(tmp_path / "in.ipynb", tmp_path / "new" / "out.ipynb")
    text = (tmp_path / "new" / "out.ipynb").read_text(encoding="utf-8")
    assert "<b>kept</b>" in text
    assert "hide-input" in text
    for absent in ("widgets", "papermill", str(tmp_path)):
        assert absent not in text


def test_mathjax_comes_with_exactly_its_script_and_fonts(tmp_path: Path) -> None:
    pages.copy_mathjax(tmp_path / "mathjax")
    script = (tmp_path / "mathjax" / "tex-chtml.js").read_text(encoding="utf-8")
    assert "output/chtml/fonts/woff-v2" in script
    fonts = list((tmp_path / "mathjax" / "output" / "chtml" / "fonts" / "woff-v2").glob("*.woff"))
    assert len(fonts) > 20
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 3e6


def test_the_configuration_is_valid_for_jupyter_book_itself() -> None:
    from jupyter_book.config import get_final_config

    config, _ = get_final_config(
        user_yaml=ROOT / "_config.yml", cli_config={"latex_individualpages": False}, raise_on_invalid=True
    )
    assert config["nb_execution_mode"] == "off"
    assert config["html_js_files"]
    assert "repository_url" not in config["html_theme_options"], "its address is not known"
    served = [*config["html_css_files"], *(name for name, _ in config["html_js_files"])]
    assert set(widget_page.assets()) <= set(served)


def test_a_site_is_packed_whole_and_the_same_each_time(tmp_path: Path) -> None:
    pages_ = {"index.html": b"one", "book/intro.html": b"two" * 1000, "_static/a.css": b""}
    packed = []
    for site in (tmp_path / "one", tmp_path / "two"):
        for name, content in reversed(pages_.items()) if site.name == "two" else pages_.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_bytes(content)
        archive.pack(site)
        packed.append(archive.pack(site).read_bytes())  # the second time, with an archive there
    assert packed[0] == packed[1]
    with zipfile.ZipFile(tmp_path / "one" / archive.NAME) as found:
        assert {name: found.read(name) for name in found.namelist()} == {
            f"pruneviz-book/{name}": content for name, content in pages_.items()
        }


def test_the_packed_book_has_no_link_to_itself(tmp_path: Path) -> None:
    link = '<a class="download" href="../{name}" download>{words}</a>'
    text = link.format(name="other.zip", words="more") + " and {}, unpacked"
    archived = link.format(name=archive.NAME, words="one\nfile")
    (tmp_path / "intro.html").write_text(text.format(archived), encoding="utf-8")
    with zipfile.ZipFile(archive.pack(tmp_path)) as found:
        assert found.read("pruneviz-book/intro.html").decode() == text.format("one\nfile")
    assert archived in (tmp_path / "intro.html").read_text(encoding="utf-8")


def test_records_that_a_notebook_computes_are_no_reason_to_run_it_again(tmp_path: Path) -> None:
    (tmp_path / "book" / "grids").mkdir(parents=True)
    (tmp_path / "_build" / "store").mkdir(parents=True)
    shutil.copy(ROOT / "book" / "grids" / "smoke.yaml", tmp_path / "book" / "grids")
    cells = read_grid(ROOT / "book" / "grids" / "smoke.yaml")
    for name in ("of-a-notebook", cells[0].hash):
        (tmp_path / "_build" / "store" / f"{name}.json").touch()
    found = {Path(path).stem for path in book._graph(tmp_path, [])["results"]}
    assert cells[0].hash in found
    assert "of-a-notebook" not in found


# The graph --------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book of one page and one notebook, with this repository's configuration and without a sweep."""
    for name in ("_config.yml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "book" / "assets", tmp_path / "book" / "assets")
    for name in ("methods.md", "bibliography.md", "references.bib"):
        shutil.copy(ROOT / "book" / name, tmp_path / "book")
    (tmp_path / "book" / "intro.md").write_text("# A book\n\n(score-then-cut)=\n## Cut\n\nText.\n", encoding="utf-8")
    chapters = "".join(f"- file: {name}\n" for name in (f"notebooks/{NAME}", "book/methods", "book/bibliography"))
    toc = f"format: jb-book\nroot: book/intro\nchapters:\n{chapters}- glob: book/methods/*\n"
    (tmp_path / "book" / "_toc.yml").write_text(toc, encoding="utf-8")
    write_notebook(tmp_path, "print('answer', 6 * 7)")
    monkeypatch.setattr(book, "_smoke_sweep", lambda root, cores: None)
    return tmp_path


def write_notebook(root: Path, code: str, name: str = NAME) -> None:
    parameters = nbformat.v4.new_code_cell("profile = 'paper'", metadata={"tags": ["parameters"]})
    cells = [nbformat.v4.new_markdown_cell("# One"), parameters, nbformat.v4.new_code_cell(code)]
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")


def state(root: Path) -> dict[str, int]:
    files = [*(root / "_build" / "html").rglob("*.html"), *(root / "_build" / "notebooks").glob("*.ipynb")]
    return {str(path): path.stat().st_mtime_ns for path in files}


def contents(site: Path) -> dict[str, bytes]:
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_what_changed_is_redone_and_nothing_else(repository: Path) -> None:
    executed = repository / "_build" / "notebooks" / f"{NAME}.ipynb"
    index = book.build(repository)
    page = index.parent / "notebooks" / f"{NAME}.html"
    assert index == repository / "_build" / "html" / "index.html"
    assert "answer 42" in page.read_text(encoding="utf-8")
    assert json.dumps('profile = "smoke"')[1:-1] in executed.read_text(encoding="utf-8")
    assert (index.parent / ".nojekyll").is_file()

    before = state(repository)
    book.build(repository)
    assert state(repository) == before, "nothing changed, and something was made again"

    time_of_notebook = executed.stat().st_mtime_ns
    (repository / "book" / "intro.md").write_text("# A book\n\n(score-then-cut)=\n## New words\n", encoding="utf-8")
    book.build(repository)
    assert "New words" in (index.parent / "book" / "intro.html").read_text(encoding="utf-8")
    assert executed.stat().st_mtime_ns == time_of_notebook, "a page's text does not concern the notebook"

    with zipfile.ZipFile(index.parent / archive.NAME) as packed:
        assert packed.testzip() is None
        assert packed.read("pruneviz-book/book/intro.html") == (index.parent / "book" / "intro.html").read_bytes()

    made = contents(index.parent)
    shutil.rmtree(index.parent)
    assert book.build(repository).is_file(), "a site that somebody deleted is made again"
    again = contents(index.parent)
    assert again.keys() == made.keys()
    assert [name for name in made if made[name] != again[name]] == [], "the same inputs give the same site"


@pytest.mark.slow
def test_a_notebook_that_reads_the_others_is_run_again_with_them(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notebook(repository, "print('reads')", "reader")
    toc = repository / "book" / "_toc.yml"
    toc.write_text(toc.read_text(encoding="utf-8") + "- file: notebooks/reader\n", encoding="utf-8")
    monkeypatch.setattr(book, "READERS", {"reader"})
    book.build(repository)
    executed = {name: repository / "_build" / "notebooks" / f"{name}.ipynb" for name in (NAME, "reader")}

    def times() -> dict[str, int]:
        return {name: path.stat().st_mtime_ns for name, path in executed.items()}

    before = times()
    write_notebook(repository, "print('answer', 6 * 9)")
    book.build(repository)
    assert [name for name in executed if times()[name] != before[name]] == [NAME, "reader"]
    before = times()
    write_notebook(repository, "print('answer', 6 * 7)", "reader")
    book.build(repository)
    assert [name for name in executed if times()[name] != before[name]] == ["reader"]


@pytest.mark.slow
def test_a_failure_is_never_followed_by_a_stale_success(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = book.build(repository).parent / "notebooks" / f"{NAME}.html"
    good = page.read_bytes()
    write_notebook(repository, "raise RuntimeError('on purpose')")
    for _ in range(2):
        with pytest.raises(StepError, match="is as it was before"):
            book.build(repository)
        said = capfd.readouterr().err
        assert f"notebooks/{NAME}.ipynb failed in cell 3 of 3" in said
        assert "profile='smoke': RuntimeError: on purpose" in said
        assert "Traceback" not in said
        assert page.read_bytes() == good

    write_notebook(repository, "print('mended')")
    with (repository / "book" / "methods.md").open("a", encoding="utf-8") as file:
        file.write("\n{cite:p}`nobody1999`\n")
    with pytest.raises(StepError):
        book.build(repository)
    assert 'could not find bibtex key "nobody1999"' in capfd.readouterr().err
    assert page.read_bytes() == good, "the last good site stays when the pages cannot be rendered"

    shutil.copy(ROOT / "book" / "methods.md", repository / "book")
    book.build(repository)
    assert "mended" in page.read_text(encoding="utf-8")


def test_two_builds_do_not_meet(repository: Path) -> None:
    (repository / "_build").mkdir()
    lock = hold(repository / "_build" / ".lock")
    assert lock is not None
    with lock, pytest.raises(InputError, match="being built"):
        book.build(repository)


def test_what_is_no_book_is_told_in_one_line(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(InputError, match="is not the repository of the book"):
        book.build(empty)
    assert not list(empty.iterdir())
    with pytest.raises(InputError, match="jobs"):
        book.build(repository, jobs=0)
    (repository / "notebooks" / f"{NAME}.ipynb").unlink()
    with pytest.raises(InputError, match=rf"lists notebooks/{NAME}, but"):
        book.build(repository)


def test_a_changed_library_forgets_the_smoke_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def sweep(grid: Path, store: Path, *_: object) -> int:
        calls.append(len(list(store.glob("*.json"))))
        store.mkdir(exist_ok=True)
        (store / "record.json").write_text("{}", encoding="utf-8")
        return 0

    monkeypatch.setattr("pruneviz.study.sweep.sweep", sweep)
    (tmp_path / "_build").mkdir()
    sources = book._computing(ROOT)
    assert {"train.py", "snip.py", "resnet.py", "run.py", "requirements.lock"} <= {path.name for path in sources}
    book._smoke_sweep(tmp_path, 1)
    book._smoke_sweep(tmp_path, 1)
    changed = tmp_path / "train.py"
    changed.write_text("# different\n", encoding="utf-8")
    monkeypatch.setattr(book, "_computing", lambda root: [*sources, changed])
    book._smoke_sweep(tmp_path, 1)
    assert calls == [0, 1, 0]


def test_every_module_that_computing_a_record_imports_makes_the_smoke_records_old() -> None:
    code = "import sys, pruneviz.study.run; print(*(n for n in sys.modules if n.partition('.')[0] == 'pruneviz'))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    hashed = {path.relative_to(ROOT) for path in book._computing(ROOT)}
    modules = {name: Path(*name.split(".")) for name in done.stdout.split()}
    assert {"pruneviz.study.scored", "pruneviz.study.cell", "pruneviz.models"} <= modules.keys()
    for name, path in modules.items():
        assert path.with_suffix(".py") in hashed or path / "__init__.py" in hashed, name
    assert hashed.isdisjoint(map(Path, ("pruneviz/figures/rank.py", "pruneviz/widgets/page.py", "pruneviz/cli.py")))
    assert Path("pruneviz/study/pages.py") not in hashed


# The site that was built ------------------------------------------------------------------------------------


class Links(HTMLParser):
    """Every address in a page, and every place in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id" and value:
                self.ids.add(value)
            if key in ("href", "src") and value:
                self.found.append((tag, value))


@pytest.fixture(scope="module")
def site() -> Path:
    if not (SITE / "index.html").is_file():
        pytest.skip("the book is not built: make book")
    return SITE


def test_links_inside_the_site_lead_somewhere(site: Path) -> None:
    parsed = {
        path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if "_static" not in path.parts
    }
    assert len(parsed) > 5
    for path, page in parsed.items():
        for tag, address in page.found:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                assert tag == "a", f"{path.name} loads {address}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path.name} links to {address}"
            if parts.fragment and target in parsed and "=" not in parts.fragment:
                assert unquote(parts.fragment) in parsed[target].ids, f"{path.name} links to {address}"


def loaded(path: Path) -> list[tuple[str, Path]]:
    """What a page loads from the site, with the tag that does."""
    addresses = [(tag, urlsplit(address)) for tag, address in Links(path.read_text(encoding="utf-8")).found]
    return [(tag, (path.parent / unquote(a.path)).resolve()) for tag, a in addresses if a.path and not a.scheme]


def test_the_site_names_no_place_of_this_machine(site: Path) -> None:
    for path in site.rglob("*"):
        if path.suffix in (".html", ".ipynb", ".md", ".txt", ".json") or path.name == "searchindex.js":
            text = path.read_text(encoding="utf-8")
            for place in {str(ROOT), str(Path.home()), sys.prefix}:
                assert place not in text, f"{path.relative_to(site)} names {place}"


PASSING = {
    "a UUID": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "a table's random name": r'"T_[0-9a-f]{5}',
    "an address in memory": r" at 0x[0-9a-f]{6,}",
}


def test_pages_hold_nothing_that_every_build_draws_anew(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for what, pattern in PASSING.items():
            found = re.search(pattern, text)
            assert found is None, f"{path.name} holds {what}: {text[max(0, found.start() - 60) : found.end()]}"


def test_the_site_is_light(site: Path) -> None:
    assert (site / archive.NAME).stat().st_size < 40e6
    with zipfile.ZipFile(site / archive.NAME) as packed:
        assert len(packed.namelist()) > 100
    served = {name: (site / "_static" / name).stat().st_size for name in widget_page.assets()}
    for path in site.rglob("*.html"):
        own = {path, *(p for tag, p in loaded(path) if tag == "img" and "_images" in p.parts)}
        assert sum(p.stat().st_size for p in own) + sum(served.values()) < 2e6, path.name


def test_the_site_has_a_card_for_each_scorer_and_every_chapter(site: Path) -> None:
    for name in pv.scorers():
        assert (site / "book" / "methods" / f"{name}.html").is_file()
    for name in book.listed_notebooks(ROOT):
        assert (site / "notebooks" / f"{name}.html").is_file()
        source = json.loads((site / "_sources" / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
        assert any(cell.get("outputs") for cell in source["cells"]), "the page was made from a notebook that ran"
