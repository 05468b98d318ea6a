"""Units in which a length of time is read most easily."""

_UNITS = (("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0), ("milliseconds", 0.001))
TURN = 2.0
"""Two minutes are minutes; one and a half are 90 seconds."""


def scale_of(most: float) -> tuple[str, float]:
    """Return the unit for values up to `most` seconds, and the seconds in it."""
    for name, size in _UNITS:
        if most >= TURN * size:
            return name, size
    return _UNITS[-1]
