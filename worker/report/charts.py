"""The plots of the page: what each shows."""

import altair as alt

from domain.imports.runs import RowEnd
from domain.jobs.model import JobState
from worker.report.drawing import (
    HEIGHT,
    Bar,
    Draw,
    Frame,
    Key,
    Rows,
    at,
    counts,
    shares,
    stacks,
    time_axis,
)
from worker.report.parts import Part
from worker.report.summary import ENDS, MEASURES, NAMES, Summary
from worker.report.units import scale_of

MOST_BARS = 12
"""Of the longer lists the tables show more."""
GAP, AXIS = 36, 58
"""Room between panels, and for the axis of each."""

_STATES: Key = {
    JobState.SUCCEEDED: "well",
    JobState.REJECTED: "no",
    JobState.DEAD: "bad",
    JobState.CANCELLED: "rest",
}
_POINTS: Key = dict(zip(NAMES, ("well", "no", "bad"), strict=True))
_ROWS: Key = {
    RowEnd.CREATED: "well",
    RowEnd.UPDATED: "well_too",
    RowEnd.UNCHANGED: "well_anyway",
    RowEnd.ALLOCATED: "good",
    RowEnd.BACKORDERED: "good_later",
    RowEnd.REFUSED: "no",
    RowEnd.FAILED: "bad",
    RowEnd.SKIPPED: "rest",
    "to come": "none",
}
REFUSED, FAILED = "refused by the business", "attempt failed"
AGAIN, LAST = "tried again", "out of attempts"
NO, WAITS = "refused", "put on the waiting list"


def throughput(summary: Summary) -> Draw:
    """Show jobs a second over time, stacked by how they ended."""
    rows: Rows = []
    for part in summary.parts:
        low = 0.0
        for state in ENDS:
            if rate := summary.rate(part, state):
                rows.append(_piece(part, state, low, low + rate))
                low += rate
    return stacks(summary, rows, key=_STATES, title="jobs per second")


def failures(summary: Summary) -> Draw:
    """Show failed attempts over time."""
    rows: Rows = []
    for part in summary.parts:
        again, last = summary.failed_by_part.get(part.key, (0, 0))
        if again:
            rows.append(_piece(part, AGAIN, 0, again))
        if last:
            rows.append(_piece(part, LAST, again, again + last))
    key: Key = {AGAIN: "no", LAST: "bad"}
    return stacks(summary, rows, key=key, title="failed attempts", whole=True)


def latencies(summary: Summary) -> Draw:
    """Show how long jobs waited, ran, and took in all: a panel each, with its own scale."""

    def draw(frame: Frame) -> alt.TopLevelMixin:
        panels = len(MEASURES)
        width = frame.width if frame.is_narrow else (frame.width - GAP * (panels - 1)) // panels
        charts = [_latency(summary, frame, name, width - AXIS) for name in MEASURES]
        join = alt.vconcat if frame.is_narrow else alt.hconcat
        return join(*charts, spacing=GAP)

    return draw


def _latency(summary: Summary, frame: Frame, name: str, width: int) -> alt.Chart:
    times = summary.period.times_by_part
    found = [(part, getattr(times.get(part.key), name, None)) for part in summary.parts]
    unit, size = scale_of(max((each[-1] for _, each in found if each), default=0.0))
    rows = [
        {
            "middle": at(part.begin + (part.end - part.begin) / 2),
            "time": measured[place] / size if measured else None,
            "what": point,
        }
        for part, measured in found
        for place, point in enumerate(NAMES)
    ]
    dashes = alt.Scale(domain=list(NAMES), range=[[1, 0], [6, 3], [2, 2]])
    chart: alt.Chart = (
        alt.Chart(
            alt.Data(values=rows),
            title=alt.Title(MEASURES[name], anchor="start", offset=8),
            width=width,
            height=HEIGHT * 3 // 4,
        )
        # A line breaks where no job finished; a point shows what has no neighbours.
        .mark_line(
            point=alt.OverlayMarkDef(size=24, filled=True, strokeWidth=0),
            strokeWidth=1.6,
            invalid="break-paths-show-path-domains",
        )
        .encode(
            x=time_axis(summary, frame, "middle", few=True),
            y=alt.Y(
                "time:Q",
                title=unit,
                scale=alt.Scale(zero=True),
                axis=alt.Axis(tickCount=4, format=",.6~r"),
            ),
            color=frame.colours(_POINTS, is_line=True),
            strokeDash=alt.StrokeDash("what:N", sort=list(NAMES), scale=dashes, legend=None),
        )
    )
    return chart


def outcomes(summary: Summary) -> Draw:
    """Show how the jobs of each kind ended, as shares."""
    bars = [
        Bar(
            name=kind,
            told=f"{jobs.total():,}",
            parts={state: jobs[state] for state in ENDS},
        )
        for kind, jobs in list(summary.by_kind.items())[:MOST_BARS]
    ]
    return shares(bars, key=_STATES, title="share of finished jobs")


def runs(summary: Summary) -> Draw:
    """Show what became of the rows of each run, as shares of its rows."""
    bars = [
        Bar(
            name=run.file_name,
            told=f"{run.rows:,} rows",
            parts={
                **{end: run.ends.get(end, 0) for end in RowEnd},
                "to come": max(0, run.rows - run.rows_done),
            },
        )
        for run in [run for run in summary.period.runs if run.rows][:MOST_BARS]
    ]
    return shares(bars, key=_ROWS, title="share of the rows")


def errors(summary: Summary) -> Draw:
    """Count the commonest errors, refusals and failures told apart."""
    bars = [
        Bar(
            name=f"{error.error} · {error.kind}",
            told=f"{error.times:,}",
            parts={REFUSED if error.is_refusal else FAILED: error.times},
        )
        for error in summary.period.errors[:MOST_BARS]
    ]
    return counts(bars, key={REFUSED: "no", FAILED: "bad"}, title="times")


def stock_outs(summary: Summary) -> Draw:
    """Count products that were short, by lines."""
    bars = [
        Bar(
            name=short.sku,
            told=f"{short.refused + short.waiting:,}",
            parts={NO: short.refused, WAITS: short.waiting},
        )
        for short in summary.period.short[:MOST_BARS]
    ]
    return counts(bars, key={NO: "no", WAITS: "well"}, title="order lines")


def _piece(part: Part, what: str, low: float, high: float) -> dict[str, object]:
    return {"begin": at(part.begin), "end": at(part.end), "what": what, "low": low, "high": high}
