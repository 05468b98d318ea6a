"""Sharing out the lines of a terminal among tables that may want more."""

from collections.abc import Sequence


def share(wanted: Sequence[int], room: int) -> list[int]:
    """Give each in turn another line, the first ones first, while there is room."""
    given = [0] * len(wanted)
    while room > 0 and given != list(wanted):
        for place, want in enumerate(wanted):
            if given[place] < want and room > 0:
                given[place] += 1
                room -= 1
    return given
