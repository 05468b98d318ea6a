"""The report in a terminal: the page's figures without its plots."""

from domain.imports.runs import RowEnd
from worker.command.output import say, show_table
from worker.durations import short, whole
from worker.harmless import plain
from worker.report.summary import ENDS, MEASURES, MOST_KINDS, Summary, seconds_of
from worker.told import named

MOST_REASON = 80


def show(summary: Summary) -> None:
    """Print a summary for people."""
    period, ends = summary.period, summary.ends
    say(
        f"{period.since:%Y-%m-%d %H:%M:%S} to {period.until:%Y-%m-%d %H:%M:%S} UTC"
        f" ({whole(summary.seconds)})"
    )
    told = ", ".join(f"{ends[state]:,} {state}" for state in ENDS)
    say(f"accepted {period.accepted:,}, finished {summary.jobs:,}: {told}")
    say(
        f"{summary.jobs / summary.seconds:,.1f} jobs a second on average, {summary.peak:,.1f} at"
        f" the most over {whole(period.width.total_seconds())};"
        f" {summary.failed_attempts:,} attempts failed"
    )
    if summary.by_kind:
        _show_kinds(summary)
    if period.errors:
        show_table(
            _title("Errors", len(period.errors), period.errors_in_all),
            ("kind", "what", "times", "error"),
            [
                (
                    plain(each.kind),
                    "refused" if each.is_refusal else "failed",
                    each.times,
                    named(each.kind, each.error, each.example, most=MOST_REASON),
                )
                for each in period.errors
            ],
        )
    if period.short:
        show_table(
            _title("Stock-outs", len(period.short), period.skus_in_all),
            ("sku", "lines refused", "lines that wait", "units lacking"),
            [(plain(each.sku), each.refused, each.waiting, each.units) for each in period.short],
        )
    if period.runs:
        show_table(
            _title("Imports", len(period.runs), period.runs_in_all),
            ("file", "what", "state", "rows", "done", "refused", "failed", "took"),
            [
                (
                    plain(run.file_name),
                    run.target,
                    run.state,
                    run.rows,
                    run.rows_done,
                    run.ends.get(RowEnd.REFUSED, 0),
                    run.ends.get(RowEnd.FAILED, 0),
                    short(seconds_of(run, until=summary.made_at)),
                )
                for run in period.runs
            ],
        )
    if period.dead:
        show_table(
            _title("Dead jobs", len(period.dead), period.dead_in_all),
            ("job", "kind", "attempts", "died", "reason"),
            [
                (
                    plain(job.id),
                    plain(job.kind),
                    job.attempts,
                    job.died_at,
                    named(job.kind, job.error, job.message, most=MOST_REASON),
                )
                for job in period.dead
            ],
        )


def _show_kinds(summary: Summary) -> None:
    kinds = list(summary.by_kind.items())
    times = summary.period.times_by_kind
    show_table(
        _title("Kinds", min(len(kinds), MOST_KINDS), len(kinds)),
        ("kind", *ENDS, *(f"{measure} p50/p95/p99" for measure in MEASURES.values())),
        [
            (
                plain(kind),
                *(jobs[state] for state in ENDS),
                *(
                    "/".join(short(each) for each in measured) if measured else None
                    for name in MEASURES
                    for measured in [getattr(times.get(kind), name, None)]
                ),
            )
            for kind, jobs in kinds[:MOST_KINDS]
        ],
    )


def _title(name: str, shown: int, in_all: int) -> str:
    return f"{name}: the first {shown} of {in_all:,}" if in_all > shown else name
