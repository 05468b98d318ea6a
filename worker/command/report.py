"""`tallyman report`: what a period came to, in the terminal, as JSON or as a page."""

from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from adapters.postgres.engine import create
from adapters.postgres.period import PostgresPeriods
from worker.addresses import database_url
from worker.command.durations import duration
from worker.command.exit_codes import ExitCode
from worker.command.output import JsonOption, fail, note, show_json
from worker.command.report_tables import show
from worker.report.parts import width_for
from worker.report.summary import Summary
from worker.settings import load

LAST = timedelta(hours=24)
MOST_SECONDS = 300
"""Of a statement: to sum up millions of jobs takes some, and holds up nobody."""


def _moment(text: str) -> datetime:
    """Read a moment; one that names no offset is UTC.

    Raises:
        BadParameter: It is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no moment: it is such as 2026-11-20, 2026-11-20T06:30 or"
            " 2026-11-20T06:30:00+01:00"
        ) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def report(
    *,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with plots to this file.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=_moment, metavar="MOMENT", help="Such as 2026-11-20T06:30; UTC."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=_moment, metavar="MOMENT", help="Now, if not given.")
    ] = None,
    last: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="DURATION", help="Such as 90m or 7d; 24h if not."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sum up a period: throughput, how long jobs took, how they ended, and what went wrong."""
    if last is not None and since is not None:
        raise typer.BadParameter("give --since or --last, not both")
    if html is not None:
        _need_extra()
    engine = create(
        database_url(load()),
        application="tallyman report",
        statement_timeout_ms=1_000 * MOST_SECONDS,
    )
    try:
        periods = PostgresPeriods(engine)
        now = periods.now()
        end = min(until or now, now)
        begin = since or end - (last or LAST)
        if begin >= end:
            raise typer.BadParameter(
                f"the period has to begin before it ends, and before now: it would be {begin} to"
                f" {end}"
            )
        period = periods.sum_up(since=begin, until=end, width=width_for(end - begin))
    finally:
        engine.dispose()
    summary = Summary(period=period, made_at=now)
    if html is not None:
        _write(summary, html)
    if as_json:
        show_json(summary.describe())
    elif html is None:
        show(summary)


def _need_extra() -> None:
    try:
        import_module("altair")
        import_module("vl_convert")
    except ImportError as error:
        fail(
            f"a page needs the extra `report` ({error.name} is missing):"
            " pip install '.[report]' in Tallyman's folder; without --html it is not needed",
            ExitCode.USAGE,
        )


def _write(summary: Summary, file: Path) -> None:
    # Its libraries are an extra, and take a second to import.
    page = import_module("worker.report.page").page(summary)
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}", ExitCode.USAGE)
    note(f"wrote {file}, {len(page.encode()) / 1024:,.0f} KiB")
