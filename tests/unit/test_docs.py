"""Links and paths in the documents lead somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCUMENTS = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
FENCED = re.compile(r"^(```+).*?^\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]*)*)`")


def prose(document: Path) -> str:
    """Return a document without its blocks of code."""
    return FENCED.sub("", document.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """Return what headings are called by in addresses, as GitHub makes it of them."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(prose(document)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found[name] = found.get(name, -1) + 1
    return {
        name if number == 0 else f"{name}-{number}"
        for name, times in found.items()
        for number in range(times + 1)
    }


def problem(document: Path, link: str) -> str | None:
    """Say what is wrong with a link to a file of the project; None where nothing is."""
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    if not target.exists():
        return f"{link}: there is no such file"
    if anchor and anchor not in anchors(target):
        return f"{link}: {target.name} has no such heading"
    return None


def paths(cell: str) -> Iterator[str]:
    """Yield the paths in a cell; a name alone is beside the one before it."""
    folder = ""
    for path in PATH.findall(cell):
        if "/" in path:
            folder = path.rpartition("/")[0] + "/"
            yield path
        elif path.endswith(".py"):
            yield folder + path


class TestLinks:
    @pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
    def test_lead_to_files_and_headings_that_there_are(self, document: Path) -> None:
        links = LINK.findall(CODE.sub("", prose(document)))
        ours = [link for link in links if not re.match(r"[a-z]+:", link)]
        assert [found for link in ours if (found := problem(document, link))] == []

    def test_would_be_missed(self) -> None:
        architecture = ROOT / "docs" / "architecture.md"
        assert problem(architecture, "guarantees.md#what-is-not-promised") is None
        assert problem(architecture, "guarantees.md#what-is-promised") is not None
        assert problem(architecture, "nowhere.md") is not None


class TestTables:
    def test_of_the_architecture_name_files_that_there_are(self) -> None:
        rows = re.findall(r"^\| .+? \| (.+) \|$", _text("architecture.md"), re.MULTILINE)
        named = [path for row in rows for path in paths(row)]
        assert len(named) > 40
        assert [path for path in named if not (ROOT / path).exists()] == []

    def test_of_the_guarantees_name_tests_that_there_are(self) -> None:
        rows = re.findall(r"^\|.*\| ([^|]+) \|$", _text("guarantees.md"), re.MULTILINE)
        named = [path for row in rows for path in paths(row)]
        assert len(named) > 50
        assert [path for path in named if not (ROOT / "tests" / path).exists()] == []

    def test_hold_each_promise_by_a_test(self) -> None:
        text = _text("guarantees.md").partition("## What is not promised")[0]
        rows = re.findall(r"^\| (?!promise|-)(.+)\| ([^|]+) \|$", text, re.MULTILINE)
        assert [promise for promise, held_by in rows if not list(paths(held_by))] == []

    def test_link_to_every_guide_from_the_readme(self) -> None:
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        guides = [f"docs/how-to/{guide.name}" for guide in (ROOT / "docs/how-to").glob("*.md")]
        assert [guide for guide in guides if f"({guide})" not in readme] == []


def _text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")
