"""Cutting a period into parts that begin where one expects."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from adapters.postgres.period import ORIGIN

MOST_PARTS = 60

_WIDTHS = [
    *(timedelta(seconds=seconds) for seconds in (1, 5, 10, 30)),
    *(timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 30)),
    *(timedelta(hours=hours) for hours in (1, 3, 6, 12)),
    *(timedelta(days=days) for days in (1, 7, 28)),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a period; the first and the last may be cut."""

    key: datetime
    """Where it would begin uncut."""
    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.begin).total_seconds()


def width_for(span: timedelta) -> timedelta:
    """Return the least width of which about `MOST_PARTS` make up the span."""
    for width in _WIDTHS:
        if span <= MOST_PARTS * width:
            return width
    return timedelta(days=28 * (1 + span // (MOST_PARTS * _WIDTHS[-1])))


def parts(since: datetime, until: datetime, width: timedelta) -> Sequence[Part]:
    """Return the parts of a period in order, those in which nothing happened too."""
    found = []
    key = ORIGIN + (since - ORIGIN) // width * width
    while key < until:
        found.append(Part(key=key, begin=max(key, since), end=min(key + width, until)))
        key += width
    return found
