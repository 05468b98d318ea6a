"""Every command line in the documents is one that the command takes."""

from pathlib import Path

import pytest

from tests.command_lines import CommandLine, mentioned, objection
from tests.conftest import ROOT

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


class TestDocuments:
    @pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
    def test_print_command_lines_that_are_taken(self, document: Path) -> None:
        refused = {
            f"{line.place}: tallyman {' '.join(line.words)}": why
            for line in mentioned(document)
            if (why := objection(line))
        }
        assert not refused

    def test_are_searched(self) -> None:
        found = [line for document in DOCUMENTS for line in mentioned(document)]
        assert len(found) > 120
        assert len({line.words[:2] for line in found}) > 50


def line(*words: str, is_mentioned: bool = False) -> CommandLine:
    return CommandLine(place="", words=words, is_mentioned=is_mentioned)


class TestObjection:
    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (["jbos"], "No such command 'jbos'"),
            (["jobs", "lst"], "No such command 'lst'"),
            (["jobs", "list", "--stat", "dead"], "No such option"),
            (["jobs", "list", "--state", "died"], "Invalid value for '--state'"),
            (["jobs", "list", "--since", "yesterday"], "Invalid value for '--since'"),
            (["jobs", "show"], "Missing argument"),
            (["top", "now"], "unexpected extra argument"),
        ],
    )
    def test_is_raised_to_what_the_command_refuses(self, words: list[str], why: str) -> None:
        assert why in (objection(line(*words)) or "")

    def test_is_not_raised_to_what_a_sentence_leaves_out(self) -> None:
        assert objection(line("jobs", "show", is_mentioned=True)) is None
        assert objection(line("jobs", "list", "--since", "…", is_mentioned=True)) is None
        assert objection(line("jobs", "list", "--sinc", "…", is_mentioned=True))


class TestMentioned:
    def test_finds_command_lines_wherever_they_stand(self, tmp_path: Path) -> None:
        document = tmp_path / "guide.md"
        document.write_text(
            "Say `tallyman up`, or `up`.\n\n"
            "| table | `tallyman top --once` |\n|---|---|\n\n"
            "    A=1 .venv/bin/tallyman health db && tallyman \\\n        queues   # both\n\n"
            "- in a list:\n\n"
            "  ```console\n  $ tallyman jobs list | head\n  tallyman is output\n  ```\n\n"
            "```python\ntallyman = up\n```\n",
            encoding="utf-8",
        )
        assert [each.words for each in mentioned(document)] == [
            ("up",),
            ("top", "--once"),
            ("health", "db"),
            ("queues",),
            ("jobs", "list"),
        ]
