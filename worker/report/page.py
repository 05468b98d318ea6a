"""The page: one file that needs nothing else, safe to mail, for people and screen readers."""

from collections.abc import Iterable

from adapters.postgres.period import Times
from domain.imports.runs import RowEnd
from worker.durations import short, whole
from worker.report import charts, style
from worker.report.elements import Table, section, text, when
from worker.report.summary import (
    ENDS,
    MEASURES,
    MOST_KINDS,
    NAMES,
    Summary,
    seconds_of,
)
from worker.told import named


def page(summary: Summary) -> str:
    """Return the page as HTML."""
    period = summary.period
    head = f"{when(period.since)} to {when(period.until)}"
    body = "\n".join((_headline(summary), *_sections(summary)))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark">
<title>Tallyman report, {head} UTC</title>
<link rel="icon" href="data:,">
<style>{style.SHEET}</style>
</head>
<body>
<header>
<h1>Tallyman report</h1>
<p><time datetime="{period.since.isoformat()}">{when(period.since)}</time> to
<time datetime="{period.until.isoformat()}">{when(period.until)}</time> UTC,
{whole(summary.seconds)}</p>
</header>
<main>
{body}
</main>
<footer>
<p>Made {when(summary.made_at)} UTC from the ledger of jobs. All times are UTC. No personal data:
reasons of jobs that may be of people are left out.</p>
</footer>
</body>
</html>
"""


def _headline(summary: Summary) -> str:
    ends = summary.ends
    tiles = [
        ("finished", f"{summary.jobs:,}", f"{summary.period.accepted:,} accepted"),
        *((state.value, f"{ends[state]:,}", _share(ends[state], summary.jobs)) for state in ENDS),
        (
            "jobs per second",
            f"{summary.jobs / summary.seconds:,.1f}",
            f"at most {summary.peak:,.1f} over {whole(summary.period.width.total_seconds())}",
        ),
        ("failed attempts", f"{summary.failed_attempts:,}", "tried again or out of attempts"),
    ]
    items = "".join(
        f"<div><dt>{text(name)}</dt><dd>{value}<small>{text(note)}</small></dd></div>"
        for name, value, note in tiles
    )
    return f'<dl class="tiles" aria-label="In short">{items}</dl>'


def _sections(summary: Summary) -> Iterable[str]:
    yield _throughput(summary)
    yield _latencies(summary)
    yield _outcomes(summary)
    yield _failures(summary)
    yield _errors(summary)
    yield _stock_outs(summary)
    yield _runs(summary)
    yield _dead(summary)


def _throughput(summary: Summary) -> str:
    parts = [part for part in summary.parts if part.key in summary.by_part]
    table = Table(
        heads=("from", "to", "jobs per second", *ENDS),
        rows=[
            (
                when(part.begin),
                when(part.end),
                round(summary.rate(part), 1),
                *(summary.by_part[part.key][state] for state in ENDS),
            )
            for part in parts
        ],
    )
    return section(
        "Throughput",
        f"Jobs that finished, per second, in parts of {whole(summary.period.width.total_seconds())}"
        f": {summary.jobs / summary.seconds:,.1f} on average and {summary.peak:,.1f} at the most.",
        table,
        draw=charts.throughput(summary) if summary.jobs else None,
        none="No job finished in this period.",
    )


def _latencies(summary: Summary) -> str:
    times = {
        kind: found
        for kind in list(summary.by_kind)[:MOST_KINDS]
        if (found := summary.period.times_by_kind.get(kind))
    }
    table = Table(
        heads=(
            "kind",
            "jobs",
            *(f"{measure} {name}" for measure in MEASURES.values() for name in NAMES),
        ),
        rows=[(kind, found.jobs, *_shown(found)) for kind, found in times.items()],
        in_all=len(summary.period.times_by_kind),
    )
    return section(
        "How long jobs took",
        "Half of the jobs were no slower than p50, 95 of 100 no slower than p95, and 99 of 100 no"
        " slower than p99.",
        table,
        draw=charts.latencies(summary) if summary.period.times_by_part else None,
        none="" if times else "No job of this period tells how long it took.",
        fine_print="Queue wait is from acceptance to the beginning of the attempt that decided the"
        " job, with earlier attempts and the waits between them. Run is from then to the outcome;"
        " jobs that were handed out as a group ran as one. End to end is both. Jobs that succeeded"
        " or were rejected count. How long messages of Celery clients waited is not known. Jobs of"
        " imports, which wait for one another, are in the table and not in the plots.",
    )


def _shown(times: Times) -> Iterable[str]:
    for name in MEASURES:
        measured = getattr(times, name)
        yield from (short(each) for each in measured) if measured else ("-",) * len(NAMES)


def _outcomes(summary: Summary) -> str:
    kinds = list(summary.by_kind.items())
    table = Table(
        heads=("kind", "finished", *ENDS),
        rows=[
            (kind, jobs.total(), *(jobs[state] for state in ENDS))
            for kind, jobs in kinds[:MOST_KINDS]
        ],
        in_all=len(kinds),
    )
    return section(
        "Outcomes by kind",
        "How the jobs of each kind ended, as shares of those that finished; the number beside a"
        " kind is how many these are.",
        table,
        draw=charts.outcomes(summary) if kinds else None,
        none="No job finished in this period.",
    )


def _failures(summary: Summary) -> str:
    failed = summary.failed_by_part
    table = Table(
        heads=("from", "to", "tried again", "out of attempts"),
        rows=[
            (when(part.begin), when(part.end), *failed[part.key])
            for part in summary.parts
            if part.key in failed
        ],
    )
    return section(
        "Retries",
        f"Attempts that failed, in parts of {whole(summary.period.width.total_seconds())}: those"
        " after which the job was tried again, and those that were its last.",
        table,
        draw=charts.failures(summary) if failed else None,
        none="No attempt failed in this period.",
    )


def _errors(summary: Summary) -> str:
    period = summary.period
    table = Table(
        heads=("error", "kind", "what", "times", "an example"),
        rows=[
            (
                each.error,
                each.kind,
                "refused" if each.is_refusal else "failed",
                each.times,
                named(each.kind, each.error, each.example),
            )
            for each in period.errors
        ],
        in_all=period.errors_in_all,
    )
    return section(
        "Errors",
        "What the business refused, and what made attempts fail, the most frequent first.",
        table,
        draw=charts.errors(summary) if period.errors else None,
        none="Nothing was refused and no attempt failed in this period.",
    )


def _stock_outs(summary: Summary) -> str:
    period = summary.period
    table = Table(
        heads=("SKU", "lines refused", "lines that wait", "units lacking"),
        rows=[(each.sku, each.refused, each.waiting, each.units) for each in period.short],
        in_all=period.skus_in_all,
    )
    return section(
        "Stock-outs",
        "Lines of orders that found too little of a product, whether a job or a row of a file"
        " asked. An order that is sent again and refused again counts once.",
        table,
        draw=charts.stock_outs(summary) if period.short else None,
        none="Nothing was short in this period.",
    )


def _runs(summary: Summary) -> str:
    period = summary.period
    table = Table(
        heads=("file", "what", "state", "rows", "done", "refused", "failed", "began", "took"),
        rows=[
            (
                run.file_name,
                run.target,
                run.state,
                run.rows,
                run.rows_done,
                run.ends.get(RowEnd.REFUSED, 0),
                run.ends.get(RowEnd.FAILED, 0),
                when(run.created_at),
                short(seconds_of(run, until=summary.made_at)),
            )
            for run in period.runs
        ],
        in_all=period.runs_in_all,
    )
    return section(
        "Imports",
        "What became of the rows of files, as shares of each file, as it stands now.",
        table,
        draw=charts.runs(summary) if any(run.rows for run in period.runs) else None,
        none="No file was imported in this period." if not period.runs else "",
    )


def _dead(summary: Summary) -> str:
    period = summary.period
    table = Table(
        heads=("job", "kind", "attempts", "died", "reason"),
        rows=[
            (job.id, job.kind, job.attempts, when(job.died_at),
             named(job.kind, job.error, job.message))
            for job in period.dead
        ],
        in_all=period.dead_in_all,
    )  # fmt: skip
    return section(
        "Dead jobs",
        "Jobs that ran out of attempts in this period and are dead still; `tallyman jobs show`"
        " tells all of one, `tallyman jobs retry` starts it over.",
        table,
        none="No job that died in this period is dead now.",
        is_open=True,
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"
