"""Text of others, made fit to be shown: nothing in it moves a cursor or turns a line around."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def plain(text: str, *, most: int | None = None) -> str:
    """Return one line: control and format characters replaced, cut to `most` characters."""
    line = " ".join(text.splitlines()) if "\n" in text else text
    shown = "".join(each if each.isprintable() else REPLACEMENT for each in line)
    return shown if most is None or len(shown) <= most else f"{shown[: most - 1]}…"
