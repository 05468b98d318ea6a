"""The table of log events in the guide, and the lines of code that write them."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

GUIDE = ROOT / "docs" / "logs.md"
PACKAGES = ("adapters", "domain", "migrations", "tasks", "worker")
LEVELS = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "exception": "ERROR",
}
ROW = re.compile(r"^\| `([a-z_]+)` \| ([A-Z, ]+) \| (.*?) \| (.*?) \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A place in the code that logs."""

    place: str
    event: object
    level: str
    fields: frozenset[str]


def lines() -> Iterator[Line]:
    for package in PACKAGES:
        for source in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(source.read_text())):
                if line := _line(node, source):
                    yield line


def _line(node: ast.AST, source: Path) -> Line | None:
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="log"), attr=method), args=arguments
        ) if method in LEVELS:
            return Line(
                place=f"{source.relative_to(ROOT)}:{node.lineno}",
                event=arguments[0].value if isinstance(arguments[0], ast.Constant) else None,
                level=LEVELS[method],
                fields=frozenset(each.arg for each in node.keywords if each.arg) - {"exc_info"},
            )
        case _:
            return None


class TestEveryLineOfALog:
    def test_has_an_event_that_is_a_name_and_nothing_else(self) -> None:
        found = list(lines())
        assert len(found) > 30
        assert not [
            line.place
            for line in found
            if not isinstance(line.event, str) or not re.fullmatch(r"[a-z]+(_[a-z]+)+", line.event)
        ]

    def test_is_in_the_guide_with_its_levels_and_all_its_fields(self) -> None:
        levels: dict[str, set[str]] = defaultdict(set)
        fields: dict[str, set[str]] = defaultdict(set)
        for line in lines():
            levels[str(line.event)].add(line.level)
            fields[str(line.event)] |= line.fields
        told = {row[0]: row for row in ROW.findall(GUIDE.read_text(encoding="utf-8"))}

        missing = {
            name: (sorted(levels[name]), sorted(fields[name]))
            for name in levels.keys() - told.keys()
        }
        if missing:
            pytest.fail(f"{GUIDE.name} lacks {missing}")
        assert told.keys() == levels.keys()
        for name, (_, level, known, meaning) in told.items():
            assert set(level.split(", ")) == levels[name], name
            assert fields[name] <= set(re.findall(r"`([a-z_]+)`", known)), name
            assert meaning, name
