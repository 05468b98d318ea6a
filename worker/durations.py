"""Lengths of time as the board and the report show them."""

TWO_MINUTES, TEN = 120, 10

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def ago(seconds: float | None) -> str:
    """Say how long, in the largest unit of which there are two; a hyphen where it is not known."""
    if seconds is None:
        return "-"
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def short(seconds: float | None) -> str:
    """Say how long to about two digits, from a tenth of a millisecond on."""
    if seconds is None:
        return "-"
    if seconds >= TWO_MINUTES:
        return ago(seconds)
    unit, size = ("s", 1.0) if seconds >= 1 else ("ms", 0.001)
    digits = 0 if seconds / size >= TEN else 1
    return f"{seconds / size:.{digits}f} {unit}"


def whole(seconds: float) -> str:
    """Say how long in the largest unit that divides it, as 1 h, 90 min or 7 d."""
    for size, unit in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
