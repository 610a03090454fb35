"""How the book asks to be cited: the same name, version and licence everywhere, and nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import pruneviz as pv

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "book" / "cite.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return found


def test_it_says_what_the_citation_file_says(page: str, citation: dict[str, Any]) -> None:
    (author,) = citation["authors"]
    assert set(re.findall(r"author = \{\{(.*?)\}\}", page)) == {author["name"]}
    assert f"title = {{{citation['title']}}}" in page
    assert f"license = {{{citation['license']}}}" in page
    assert set(re.findall(r"pruneviz (\d+\.\d+\.\d+)|version = \{(.*?)\}", page)) == {
        (citation["version"], ""),
        ("", citation["version"]),
    }
    assert citation["version"] == pv.__version__


def test_it_invents_no_identifier(page: str, citation: dict[str, Any]) -> None:
    assert not {"doi", "url", "identifiers", "repository-code"} & set(citation), "the page says that there is none"
    assert "has no DOI and no address" in page
    assert not re.search(r"https?://|doi\s*=|url\s*=|10\.\d{4}", page)


def test_what_it_names_is_there(page: str) -> None:
    notebooks = set(re.findall(r"notebooks/([\w\\]+?)(?:\.ipynb|[>`])", page))
    assert {"rq1_prune_before_training", "rq9\\_sanity", "reference_provenance", "reference_ledger"} <= notebooks
    assert all((ROOT / "notebooks" / f"{name.replace(chr(92), '')}.ipynb").is_file() for name in notebooks)
    title = re.search(r"chapter = \{(.*)\}", page)
    assert title is not None
    assert f"# {title[1]}" in (ROOT / "notebooks" / "rq9_sanity.ipynb").read_text(encoding="utf-8")
    cell = re.search(r"cell `([\w-]+)`", page)
    assert cell is not None
    assert f'"{cell[1]}"' in (ROOT / "notebooks" / "rq1_prune_before_training.ipynb").read_text(encoding="utf-8")


def test_what_it_cites_is_in_the_bibliography(page: str) -> None:
    known = re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"))
    cited = re.findall(r"\{cite:\w+\}`(\w+)`", page)
    assert cited
    assert set(cited) <= set(known)
