"""Text of others, such that it shows on a terminal and steers none."""

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# What moves a cursor, colours, retitles or erases; what turns text around. Lines and tabs stay.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def harmless(text: str) -> str:
    """Return text with each such character written out, as U+001B is as a backslash and `x1b`."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def harmless_line(text: str) -> str:
    """Return text that stays on its line as well."""
    return harmless(text).replace("\n", "\\n")


def harmless_json(text: str) -> str:
    """Return JSON that says the same."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain(text: str, *, most: int | None = None) -> str:
    """Return one line: control and format characters replaced, cut to `most` characters."""
    line = " ".join(text.splitlines()) if "\n" in text else text
    shown = "".join(each if each.isprintable() else REPLACEMENT for each in line)
    return shown if most is None or len(shown) <= most else f"{shown[: most - 1]}…"
