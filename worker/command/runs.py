"""`tallyman imports`: look at runs, stop them, let them go on."""

from pathlib import Path
from typing import Annotated

import typer

from adapters.postgres.import_queries import RunView
from adapters.postgres.persistence import Persistently
from adapters.sources import descriptions
from domain.errors import DomainError
from domain.imports.commands import ScanSource
from domain.imports.runs import RowEnd, RunState
from domain.imports.steering import cancel_run, resume_run
from worker.command.database import Database, database
from worker.command.follow import OpenAmong, follow, follow_run, found
from worker.command.import_summary import Summary
from worker.command.output import JsonOption, fail, note, say, show_fields, show_json, show_table
from worker.command.rejects import rejects_to
from worker.settings import load

app = typer.Typer(no_args_is_help=True, add_completion=False)

RunId = Annotated[str, typer.Argument(metavar="RUN")]
FollowOption = Annotated[bool, typer.Option("--follow", help="Show its progress until its end.")]


@app.command("list")
def list_runs(
    *,
    state: Annotated[
        list[RunState] | None, typer.Option(help="Only runs in this state; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Runs to show at the most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List runs, the newest first."""
    with database() as opened:
        runs = opened.imports.newest(states=state or (), limit=limit)
    if as_json:
        show_json(runs)
        return
    show_table(
        "Imports",
        ("run", "what", "file", "state", "rows", "done", "refused", "failed", "began", "ended"),
        [
            (
                run.id,
                run.target,
                run.file_name,
                _state(run),
                run.rows,
                run.rows_done,
                run.ends.get(RowEnd.REFUSED, 0),
                run.ends.get(RowEnd.FAILED, 0),
                run.created_at,
                run.finished_at,
            )
            for run in runs
        ],
    )


@app.command()
def show(run_id: RunId, *, follow: FollowOption = False, as_json: JsonOption = False) -> None:
    """Show a run: how far it is, what became of its rows, and why some had no effect."""
    with database() as opened:
        run = follow_run(opened.imports, run_id) if follow else found(opened.imports, run_id)
        reasons = opened.imports.reasons(run_id)
    if as_json:
        show_json({**Summary.of(run, reasons).describe(), "plan": run.plan})
        return
    show_fields(
        {
            "run": run.id,
            "what": run.target,
            "file": run.file_name,
            "source": run.source,
            "state": _state(run),
            "began": run.created_at,
            "ended": run.finished_at,
            "chunk": f"{min(run.next_chunk, run.chunks)} of {run.chunks}",
        }
    )
    Summary.of(run, reasons).show()
    if run.dead_job_id:
        note(
            f"stuck: {run.reason}; see `tallyman jobs show {run.dead_job_id}`, then"
            f" `tallyman imports resume {run.id}`"
        )


@app.command()
def errors(
    run_id: RunId,
    *,
    to: Annotated[
        Path | None,
        typer.Option(help="CSV file to write them to: line, column, code, message, value."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Errors to print at the most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show why rows had no effect; their cells go to a file alone, as they may be personal."""
    with database() as opened:
        found(opened.imports, run_id)
        if to is not None:
            with rejects_to(to) as rejected:
                rows = 0
                for error in opened.imports.errors(run_id):
                    rejected(error)
                    rows += 1
            say(f"{rows:,} rows written to {to}")
            return
        first = [
            error for error, _ in zip(opened.imports.errors(run_id), range(limit), strict=False)
        ]
    if as_json:
        show_json(
            [
                {"line": e.line, "column": e.column, "code": e.code, "message": e.message}
                for e in first
            ]
        )
        return
    show_table(
        f"Rows of {run_id} that had no effect",
        ("line", "column", "code", "message"),
        [(each.line, each.column, each.code, each.message) for each in first],
    )
    if len(first) == limit:
        note(f"the first {limit}: --limit shows more, --to writes all to a file")


@app.command()
def cancel(run_id: RunId) -> None:
    """Stop a run before its next chunk; what was imported stays."""
    with database() as opened:

        def transaction() -> None:
            with opened.begin_work() as work:
                cancel_run(run_id, work)
                work.commit()

        Persistently()(transaction)
    say(f"cancelled {run_id}; `tallyman imports resume {run_id}` lets it go on")


@app.command()
def resume(run_id: RunId, *, follow: FollowOption = False) -> None:
    """Let a run go on that was cancelled, or that is stuck at a chunk."""
    with database() as opened:
        _resume(opened, run_id)
        say(f"{run_id} goes on")
        if follow:
            run = follow_run(opened.imports, run_id)
            Summary.of(run, opened.imports.reasons(run_id)).show()


@app.command("sources")
def list_sources(*, as_json: JsonOption = False) -> None:
    """List the sources that are described here; one that cannot be used says why."""
    folder = load().imports_folder
    found = [_described(folder, name) for name in descriptions.names(folder)]
    if as_json:
        show_json(found)
        return
    show_table(
        f"Sources in {folder}",
        ("source", "what", "files", "looked at", "cannot be used"),
        [tuple(each.values()) for each in found],
    )


@app.command()
def scan(
    source: Annotated[str, typer.Argument(metavar="SOURCE")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Have a worker look at a source now, and say what it found."""
    with database() as opened:
        receipt = opened.producer.submit(ScanSource.kind, {"source": source})
        follow(
            OpenAmong(opened.jobs, [receipt.job_id]),
            total=1,
            look_again=f"tallyman jobs show {receipt.job_id}",
        )
        job = opened.jobs.find(receipt.job_id)
    if job is None or job.result is None:
        fail(job.error.message if job and job.error else f"job {receipt.job_id} has no result")
    if as_json:
        show_json(job.result)
        return
    for each in job.result["taken"]:
        say(f"taken: {each['file']}, run {each['run']}")
    for each in job.result["known"]:
        say(f"known: {each['file']} was imported before, as run {each['run']}")
    for each in job.result["refused"]:
        say(f"refused: {each['file']}: {each['message']}")
    for name in job.result["waiting"]:
        say(f"waiting: {name} may still be written")
    if not any(job.result[name] for name in ("taken", "known", "refused", "waiting")):
        say("nothing has arrived")


def _described(folder: Path, name: str) -> dict[str, str | None]:
    try:
        source = descriptions.read(folder, name)
    except DomainError as error:
        return {"source": name, "what": None, "files": None, "looked_at": None, "error": str(error)}
    every = f"every {source.every_seconds} s" if source.every_seconds else None
    return {
        "source": name,
        "what": source.target,
        "files": source.files,
        "looked_at": every or source.cron or "when asked to",
        "error": None,
    }


def _resume(opened: Database, run_id: str) -> None:
    run = found(opened.imports, run_id)
    if run.dead_job_id:
        opened.operations.retry([run.dead_job_id])
        return

    def transaction() -> None:
        with opened.begin_work() as work:
            resume_run(run_id, work)
            work.commit()

    Persistently()(transaction)


def _state(run: RunView) -> str:
    return "stuck" if run.dead_job_id else run.state
