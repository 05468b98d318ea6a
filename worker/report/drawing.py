"""Drawing plots: twice for width and twice for light, as pictures without scripts.

Needs the extra `report`: import it when a page is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import altair as alt
import vl_convert

from worker.harmless import plain
from worker.report.summary import Summary
from worker.report.themes import DARK, LIGHT, Role, Theme

NARROW, WIDE = 328, 928
"""Widths in pixels: of a phone's page, and of a desktop's."""
HEIGHT = 200
AXIS = 56
"""Room for an axis and its title."""
BAR, STEP, DROP = 12, 36, 8
"""Heights of a bar and of all that belongs to it, and how far below its middle it is."""
MOST_LABEL, MOST_WIDE_LABEL = 36, 100
"""Characters of a name that there is room for."""
NUMBER = ",.6~r"
"""How numbers stand at an axis: with commas, and never as 1e+3."""
SHORT_WORD = 9
"""Of words that are no longer, a row of a phone has room for three."""
FORMS = ((300.0, "%H:%M:%S"), (172_800.0, "%H:%M"), (float("inf"), "%-d %b"))
"""How a moment stands at the axis of a period that is shorter than so many seconds."""

Key = Mapping[str, Role]
"""What each part of a plot is called, in order, and what it stands for."""
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a plot is drawn for."""

    theme: Theme
    width: int

    @property
    def is_narrow(self) -> bool:
        return self.width <= NARROW

    def colours(self, key: Key, *, is_line: bool = False) -> alt.Color:
        return alt.Color(
            "what:N",
            sort=list(key),
            scale=alt.Scale(
                domain=list(key), range=[self.theme.colours[role] for role in key.values()]
            ),
            legend=alt.Legend(
                title=None,
                orient="top",
                columns=self._columns(key),
                labelLimit=0,
                # Fonts are wider where the page is read than where this is drawn.
                columnPadding=14 if self.is_narrow else 26,
                symbolType="stroke" if is_line else "square",
            ),
        )

    def _columns(self, key: Key) -> int:
        """Return how many words stand in a row; 0 is all."""
        if not self.is_narrow:
            return 0
        return 2 if max(map(len, key), default=0) > SHORT_WORD else 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of a thing that has a name."""

    name: str
    told: str
    """What stands beside the name, whole however long that is."""
    parts: Mapping[str, int]

    def label(self, frame: Frame) -> str:
        most = MOST_LABEL if frame.is_narrow else MOST_WIDE_LABEL
        return f"{plain(self.name, most=most)} · {self.told}"


Draw = Callable[[Frame], alt.TopLevelMixin]


def pictures(draw: Draw) -> dict[tuple[str, int], str]:
    """Return SVGs of a plot by the name of the theme and the width."""
    return {
        (theme.name, width): vl_convert.vegalite_to_svg(
            draw(Frame(theme=theme, width=width)).to_dict(),
            config=_style(theme),
            # Nothing is fetched, whatever a label says.
            allowed_base_urls=[],
        )
        for theme in (LIGHT, DARK)
        for width in (NARROW, WIDE)
    }


def stacks(summary: Summary, rows: Rows, *, key: Key, title: str, whole: bool = False) -> Draw:
    """Draw rows with `begin`, `end`, `low`, `high` and `what` over time."""

    def draw(frame: Frame) -> alt.TopLevelMixin:
        axis = alt.Axis(tickCount=5, format=NUMBER)
        if whole:
            axis = alt.Axis(tickCount=5, format=NUMBER, tickMinStep=1)
        chart: alt.Chart = (
            alt.Chart(alt.Data(values=rows), width=frame.width - AXIS, height=HEIGHT)
            .mark_rect(stroke=None)
            .encode(
                x=time_axis(summary, frame, "begin"),
                x2="end:T",
                y=alt.Y("low:Q", title=title, axis=axis),
                y2="high:Q",
                color=frame.colours(_found(key, rows)),
            )
        )
        return chart

    return draw


def shares(bars: Sequence[Bar], *, key: Key, title: str) -> Draw:
    """Draw each bar from 0 to 100%, whatever its parts add up to."""
    rows = [
        {**row, "low": row["low"] / total, "high": row["high"] / total}
        for place, bar in enumerate(bars)
        for total in [sum(bar.parts.values())]
        for row in _rows_of(bar, place)
    ]
    return _bars(
        bars, rows, key=key, axis={"format": "%"}, scale=alt.Scale(domain=[0, 1]), title=title
    )


def counts(bars: Sequence[Bar], *, key: Key, title: str) -> Draw:
    """Draw each bar as long as its parts add up to."""
    rows = [row for place, bar in enumerate(bars) for row in _rows_of(bar, place)]
    axis = {"format": NUMBER, "tickMinStep": 1}
    return _bars(bars, rows, key=key, axis=axis, scale=alt.Scale(zero=True), title=title)


def time_axis(summary: Summary, frame: Frame, field: str, *, few: bool = False) -> alt.X:
    """Return the axis of the period, in UTC."""
    return alt.X(
        f"{field}:T",
        title="UTC",
        scale=alt.Scale(
            type="utc", domain=[at(summary.period.since), at(summary.period.until)], nice=False
        ),
        axis=alt.Axis(
            format=next(form for most, form in FORMS if summary.seconds < most),
            tickCount=4 if few or frame.is_narrow else 7,
            labelOverlap="greedy",
            labelSeparation=12,
            labelBound=True,
            grid=False,
        ),
    )


def at(moment: datetime) -> str:
    """Return a moment as a plot reads it."""
    return moment.isoformat()


def _rows_of(bar: Bar, place: int) -> Rows:
    rows, low = [], 0
    for what, count in bar.parts.items():
        if count:
            rows.append({"place": place, "what": what, "low": low, "high": low + count})
        low += count
    return rows


def _bars(
    bars: Sequence[Bar],
    rows: Rows,
    *,
    key: Key,
    axis: Mapping[str, Any],
    scale: alt.Scale,
    title: str,
) -> Draw:
    """Draw names above their bars: many are too long to stand beside them."""

    def draw(frame: Frame) -> alt.TopLevelMixin:
        heads = [{"place": place, "label": bar.label(frame)} for place, bar in enumerate(bars)]
        y = alt.Y("place:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0))
        ticks = {"tickCount": 4 if frame.is_narrow else 8, "labelFlush": True, **axis}
        drawn: alt.Chart = (
            alt.Chart(alt.Data(values=rows))
            .mark_bar(height=BAR, yOffset=DROP)
            .encode(
                x=alt.X("low:Q", title=title, axis=alt.Axis.from_dict(ticks), scale=scale),
                x2="high:Q",
                y=y,
                color=frame.colours(_found(key, rows)),
            )
        )
        names: alt.Chart = (
            alt.Chart(alt.Data(values=heads))
            .mark_text(align="left", baseline="bottom", color=frame.theme.ink)
            .encode(x=alt.value(0), y=y, text="label:N")
        )
        height = len(bars) * STEP
        return alt.layer(drawn, names).properties(width=frame.width - 12, height=height)

    return draw


def _found(key: Key, rows: Rows) -> Key:
    """Leave out what does not occur: the fewer words, the easier they are found."""
    occur = {row["what"] for row in rows}
    return {what: role for what, role in key.items() if what in occur}


def _style(theme: Theme) -> dict[str, Any]:
    return {
        "font": "system-ui, sans-serif",
        "background": "transparent",
        "padding": 4,
        "view": {"stroke": None},
        "mark": {"aria": False},
        "text": {"fontSize": 12},
        "title": {"color": theme.ink, "fontSize": 13},
        "legend": {"labelColor": theme.ink, "labelFontSize": 12, "offset": 10},
        "axis": {
            "labelColor": theme.faint,
            "titleColor": theme.faint,
            "gridColor": theme.grid,
            "domainColor": theme.faint,
            "tickColor": theme.faint,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
        },
    }
