"""Fields that a row can fill: those of the commands, read from text."""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import get_type_hints

from domain.allocation.errors import InvalidQuantity
from domain.errors import InvalidPayload
from domain.messages import Message

# What spreadsheets write for a whole number; more digits than these are beyond every limit.
_WHOLE = re.compile(r"(?P<digits>[+-]?[0-9]{1,18})(\.0*)?")
_FLAGS = {
    **dict.fromkeys(("true", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "no", "n", "0"), False),
}

Read = Callable[[str, str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a command, and how a cell is read for it."""

    name: str
    read: Read
    required: bool


def fields_of(message: type[Message]) -> dict[str, Field]:
    """Return the fields of a command, or of a part of one, by name."""
    hints = get_type_hints(message)
    return {
        field.name: Field(
            name=field.name,
            read=_READS.get(hints[field.name], _text),
            required=field.default is MISSING,
        )
        for field in fields(message)
    }


def payload(cells: Mapping[str, str], known: Mapping[str, Field]) -> dict[str, object]:
    """Turn cells into a payload's values; an empty cell leaves a field out that may be left out.

    Raises:
        InvalidQuantity: A quantity is not a whole number.
        InvalidPayload: Another cell is not what its field holds.
    """
    return {
        name: known[name].read(name, text)
        for name, text in cells.items()
        if text or known[name].required
    }


def _text(_: str, text: str) -> str:
    return text


def _whole_number(name: str, text: str) -> int:
    found = _WHOLE.fullmatch(text)
    if found is None and name == "quantity":
        raise InvalidQuantity(
            f"quantity must be a whole number, got {text[:40]!r}", {"field": name}
        )
    if found is None:
        raise InvalidPayload(f"{name} must be a whole number", {"field": name})
    return int(found["digits"])


def _flag(name: str, text: str) -> bool:
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        # Without its cause, and the value: a wrong mapping would show a person's data.
        raise InvalidPayload(
            f"{name} must be true or false, yes or no, 1 or 0", {"field": name}
        ) from None


_READS: Mapping[object, Read] = {int: _whole_number, bool: _flag}
