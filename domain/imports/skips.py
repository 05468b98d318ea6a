"""Rows that a source says are none of ours, such as cancellations."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from domain.imports.errors import InvalidMapping
from domain.imports.rows import Row


class Test(StrEnum):
    """How a cell is compared."""

    EQUALS = "equals"
    STARTS_WITH = "starts_with"
    MATCHES = "matches"
    """The whole cell matches a regular expression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipRule:
    """Skip a row whose cell, without the spaces around it, is such and such."""

    column: str
    test: Test
    text: str
    reason: str
    """What it is counted as."""

    def __post_init__(self) -> None:
        if self.test is Test.MATCHES:
            try:
                re.compile(self.text)
            except re.error as error:
                raise InvalidMapping(
                    f"{self.text!r}, which skips rows by {self.column!r}, is no regular"
                    f" expression: {error}"
                ) from error

    def fits(self, cell: str) -> bool:
        match self.test:
            case Test.EQUALS:
                return cell == self.text
            case Test.STARTS_WITH:
                return cell.startswith(self.text)
            case Test.MATCHES:
                return re.fullmatch(self.text, cell) is not None


class Skips:
    """The rules of one file: each knows its place in the row."""

    def __init__(self, rules: Sequence[SkipRule], header: Sequence[str]) -> None:
        """Find each rule's column.

        Raises:
            InvalidMapping: The file has no such column.
        """
        unknown = [rule.column for rule in rules if rule.column not in header]
        if unknown:
            raise InvalidMapping(
                f"a skip rule names column {unknown[0]!r}; the file has"
                f" {', '.join(repr(column) for column in header)}"
            )
        self._rules = [(header.index(rule.column), rule) for rule in rules]

    def reason(self, row: Row) -> str | None:
        """Return why a row is skipped, or None."""
        for place, rule in self._rules:
            if rule.fits(row.cells[place].strip()):
                return rule.reason
        return None
