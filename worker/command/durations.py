"""Lengths of time as people write them: 90s, 15m, 2h, 7d."""

import re
from datetime import timedelta

import typer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FORM = re.compile(r"([0-9]{1,6})([smhd])")


def duration(text: str) -> timedelta:
    """Read a length of time.

    Raises:
        BadParameter: It is none.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no length of time: it is such as 90s, 15m, 2h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
