"""What the page is made of: sections, tables and pictures, with every name taken for words."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from worker.harmless import plain
from worker.report.drawing import NARROW, WIDE, Draw, pictures

WIDE_FROM = 780
"""Width of a window, in pixels, from which the wide plots are shown."""
SHORT = 26
"""Characters of a cell that stand on one line, however narrow the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Figures, numbers to the right."""

    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    in_all: int | None = None
    """Rows that there are; more than are shown where the list is long."""

    def html(self, name: str) -> str:
        heads = "".join(
            f'<th scope="col"{self._side(place)}>{text(head)}</th>'
            for place, head in enumerate(self.heads)
        )
        rows = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in self.rows)
        more = ""
        if self.in_all is not None and self.in_all > len(self.rows):
            more = f'<p class="note">The first {len(self.rows):,} of {self.in_all:,}.</p>'
        return (
            f'<div class="scroll" role="region" tabindex="0" aria-label="{text(name)}">'
            f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{more}"
        )

    def _side(self, place: int) -> str:
        numbers = all(isinstance(row[place], int | float) for row in self.rows)
        return ' class="number"' if numbers else ""


def section(
    title: str,
    words: str,
    table: Table,
    *,
    none: str,
    draw: Draw | None = None,
    is_open: bool = False,
    fine_print: str = "",
) -> str:
    if not table.rows and none:
        return f"<section><h2>{title}</h2><p>{none}</p></section>"
    figures = table.html(title)
    if not is_open:
        figures = f"<details><summary>Figures</summary>{figures}</details>"
    small = f'<p class="note">{text(fine_print)}</p>' if fine_print else ""
    plot = _picture(draw, f"{title}. {words} The figures are in the table below.") if draw else ""
    return f"<section><h2>{title}</h2><p>{text(words)}</p>{plot}{small}{figures}</section>"


def _picture(draw: Draw, alternative: str) -> str:
    drawn = {key: _data(svg) for key, svg in pictures(draw).items()}
    sources = "".join(
        f'<source media="{dark}(min-width: {WIDE_FROM}px)" srcset="{drawn[theme, WIDE]}">'
        + (f'<source media="{dark[:-5]}" srcset="{drawn[theme, NARROW]}">' if dark else "")
        for theme, dark in (("dark", "screen and (prefers-color-scheme: dark) and "), ("light", ""))
    )
    return (
        f'<figure><picture>{sources}<img src="{drawn["light", NARROW]}"'
        f' alt="{text(alternative)}"></picture></figure>'
    )


def _data(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _cell(cell: object) -> str:
    match cell:
        case int():
            return f'<td class="number">{cell:,}</td>'
        case float():
            return f'<td class="number">{cell:,.1f}</td>'
        case _:
            line = plain(str(cell))
            kind = "short" if len(line) <= SHORT else "long"
            return f'<td class="{kind}">{escape(line)}</td>'


def text(words: str) -> str:
    """Return words as HTML that says just them."""
    return escape(plain(words))


def when(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
