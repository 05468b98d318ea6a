"""Steering runs: what operators ask of them."""

from domain.imports.errors import RunNotFound, RunNotOpen
from domain.imports.runs import Run
from domain.imports.taking import RunWork, go_on


def cancel_run(run_id: str, work: RunWork) -> Run:
    """Stop a run before its next chunk; what was imported stays.

    Raises:
        RunNotFound: There is no such run.
        RunNotOpen: It is over already.
    """
    run = _run(run_id, work)
    run.cancel()
    work.imports.save(run)
    work.jobs.cancel(run.job_id)
    return run


def resume_run(run_id: str, work: RunWork) -> Run:
    """Let a cancelled run go on with its next chunk.

    Raises:
        RunNotFound: There is no such run.
        RunNotOpen: It was not cancelled, or so long ago that its rows are gone.
    """
    run = _run(run_id, work)
    run.resume()
    if not work.imports.holds_rows(run):
        raise RunNotOpen(
            f"the rows of import run {run_id!r} are not kept any more:"
            " import the file again, under another label",
            {"run_id": run_id},
        )
    work.imports.save(run)
    go_on(run, work)
    return run


def _run(run_id: str, work: RunWork) -> Run:
    run = work.imports.locked(run_id)
    if run is None:
        raise RunNotFound.of(run_id)
    return run
