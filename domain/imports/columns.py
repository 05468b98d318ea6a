"""Columns: which cell of a row fills which field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from domain.imports.errors import InvalidMapping
from domain.imports.fields import Field
from domain.imports.rows import Row

COLUMNS = 10
NAME = 30
"""What a message shows of a file: so many columns, and so many characters of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where each field comes from: a place in the row, or one text for all rows."""

    places: Mapping[str, int]
    constants: Mapping[str, str]
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Texts for cells that are empty."""

    @classmethod
    def match(
        cls,
        header: Sequence[str],
        known: Mapping[str, Field],
        *,
        mapped: Mapping[str, str],
        constants: Mapping[str, str],
        defaults: Mapping[str, str] | None = None,
    ) -> Self:
        """Match fields with columns: as `mapped` says, else with the column of the field's name.

        A field of `defaults` that no column fills has its default in all rows.

        Raises:
            InvalidMapping: A field or a column is unknown, a column is there twice, a field is
                given twice, or one that every job needs is not given at all.
        """
        defaults = dict(defaults or {})
        for name in (*mapped, *constants, *defaults):
            if name not in known:
                raise InvalidMapping(f"there is no field {name!r}; known: {', '.join(known)}")
            if name in mapped and name in constants:
                raise InvalidMapping(f"{name} is both mapped and set; leave out one of the two")
        same_name = {
            name: name for name in known if name in header and name not in {*mapped, *constants}
        }
        places = {name: _place(column, header) for name, column in {**same_name, **mapped}.items()}
        missing = [
            name
            for name, field in known.items()
            if field.required and name not in {*places, *constants, *defaults}
        ]
        if missing:
            raise InvalidMapping(
                f"no column is mapped to {', '.join(missing)}; the file has {_list(header)}:"
                f" map with --map {missing[0]}=<column>"
            )
        return cls(places=places, constants=dict(constants), defaults=defaults)

    def cells(self, row: Row) -> dict[str, str]:
        """Return the text for each field, without the spaces around it."""
        found = {name: row.cells[place].strip() for name, place in self.places.items()}
        if self.defaults:
            filled = {name: text for name, text in found.items() if text}
            return {**self.constants, **found, **self.defaults, **filled}
        return {**self.constants, **found}


def _place(column: str, header: Sequence[str]) -> int:
    count = header.count(column)
    if count == 0:
        raise InvalidMapping(f"the file has no column {column!r}; it has {_list(header)}")
    if count > 1:
        raise InvalidMapping(f"the file has {count} columns {column!r}; rename all but one")
    return header.index(column)


def _list(header: Sequence[str]) -> str:
    shown = [repr(column if len(column) <= NAME else f"{column[:NAME]}…") for column in header]
    more = f" and {len(shown) - COLUMNS} more" if len(shown) > COLUMNS else ""
    return ", ".join(shown[:COLUMNS]) + more
