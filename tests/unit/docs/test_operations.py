"""Operations: the runbook of each alert is there, and what it links to."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.conftest import ROOT

OPERATIONS = ROOT / "docs" / "operations.md"
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))[
        "groups"
    ]
    for rule in group["rules"]
]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def headings(document: Path) -> Iterator[str]:
    tokens = MarkdownIt("commonmark").parse(document.read_text(encoding="utf-8"))
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            yield token.content


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document, as GitHub makes them of its headings."""
    found: set[str] = set()
    for heading in headings(document):
        text = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{text}-{number}" if number else text) in found:
            number += 1
        found.add(anchor)
    return found


def section(title: str) -> str:
    text = OPERATIONS.read_text(encoding="utf-8")
    return re.split(r"\n#+ ", text.partition(f"\n## {title}\n")[2])[0]


class TestRunbooks:
    @pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
    def test_are_where_the_alert_says(self, alert: dict[str, dict[str, str]]) -> None:
        file, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert ROOT / file == OPERATIONS
        assert anchor in anchors(OPERATIONS)

    @pytest.mark.parametrize("name", [alert["alert"] for alert in ALERTS])
    def test_say_what_it_means_what_to_do_and_when_it_is_over(self, name: str) -> None:
        told = section(name)
        assert "**Users" in told
        assert re.search(r"\*\*Look|\*\*Do\b", told)
        assert "**Over**" in told

    def test_are_of_no_other_alerts(self) -> None:
        told = {each for each in headings(OPERATIONS) if each.startswith("Tallyman")}
        assert told == {alert["alert"] for alert in ALERTS}


class TestLinks:
    @pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
    def test_lead_to_what_is_there(self, document: Path) -> None:
        broken = []
        for token in MarkdownIt("commonmark").enable("table").parse(document.read_text("utf-8")):
            for child in token.children or ():
                target = str(child.attrGet("href") or "")
                if child.type != "link_open" or "://" in target:
                    continue
                path, _, anchor = target.partition("#")
                file = (document.parent / path).resolve() if path else document
                if not file.exists() or (anchor and anchor not in anchors(file)):
                    broken.append(target)
        assert not broken
