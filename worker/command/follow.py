"""Waiting for jobs to finish, with a bar for people to look at."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from adapters.postgres.import_queries import ImportQueries, RunView
from adapters.postgres.persistence import Persistently
from adapters.postgres.queries import JobQueries
from domain.imports.errors import RunNotFound
from domain.jobs.errors import QueueFull
from domain.jobs.model import JobState
from worker.command.exit_codes import ExitCode
from worker.command.output import console, fail, note

POLL_SECONDS = 0.1
POLL_SHARE = 10
"""Times as long as the last question took is waited at least, so that asking stays cheap."""
SILENT_SECONDS = 15.0
"""After this long without a job finished, say what may be the matter."""
REMIND_SECONDS = 60.0
ASKED_AT_ONCE = 1_000

Show = Callable[[int], None]


@contextmanager
def progress(label: str, *, total: int) -> Iterator[Show]:
    """Show a bar on stderr, where that is a terminal, and give what moves it."""
    terminal = console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
    ) as bar:
        task = bar.add_task(label, total=total)

        def show(done: int) -> None:
            bar.update(task, completed=done, total=max(total, done))

        yield show


def follow(count_open: Callable[[], int], *, total: int, look_again: str) -> None:
    """Return when no job is open any more; `look_again` is the command to ask later."""
    persistently = Persistently()
    fewest = total + 1
    told = False
    try:
        with progress("jobs", total=total) as show:
            while True:
                asked = monotonic()
                still_open = persistently(count_open)
                show(total - still_open)
                if not still_open:
                    return
                if still_open < fewest:
                    fewest, moved = still_open, asked
                elif not told and asked - moved > SILENT_SECONDS:
                    note(
                        f"no job has finished for {SILENT_SECONDS:.0f} seconds: do a relay and a"
                        " worker run? (`tallyman up` runs both; Ctrl-C here stops no job)"
                    )
                    told = True
                sleep(max(POLL_SECONDS, POLL_SHARE * (monotonic() - asked)))
    except KeyboardInterrupt:
        fail(f"no longer looking; the jobs go on, see `{look_again}`", ExitCode.INTERRUPTED)


def found(imports: ImportQueries, run_id: str) -> RunView:
    """Return a run.

    Raises:
        RunNotFound: There is none of this id.
    """
    run = imports.find(run_id)
    if run is None:
        raise RunNotFound.of(run_id)
    return run


def follow_run(imports: ImportQueries, run_id: str) -> RunView:
    """Show a run's progress until it is over; return how it ended."""
    persistently = Persistently()
    run = found(imports, run_id)
    since, told = monotonic(), False
    try:
        with run_progress(total=run.rows) as show:
            while True:
                before, run = run.rows_done, persistently(lambda: found(imports, run_id))
                show(run.rows_done)
                if not run.state.is_open:
                    return run
                if run.dead_job_id:
                    fail(
                        f"the run is stuck: {run.reason}; see `tallyman jobs show"
                        f" {run.dead_job_id}`, then `tallyman imports resume {run_id}`"
                    )
                if run.rows_done != before:
                    since = monotonic()
                elif not told and monotonic() - since > SILENT_SECONDS:
                    note(
                        f"no row was imported for {SILENT_SECONDS:.0f} seconds: do a relay and a"
                        " worker run? (`tallyman up` runs both; Ctrl-C here stops no import)"
                    )
                    told = True
                sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        fail(
            f"no longer looking; the import goes on, see `tallyman imports show {run_id}`",
            ExitCode.INTERRUPTED,
        )


@contextmanager
def run_progress(*, total: int) -> Iterator[Show]:
    """Show rows done, their rate and the time that is left on stderr, where that is a terminal."""
    terminal = console(stderr=True)
    with Progress(
        TextColumn("rows"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn("rate"),
        TimeRemainingColumn(),
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
    ) as bar:
        task = bar.add_task("rows", total=total)
        yield lambda done: bar.update(task, completed=done)


class _RateColumn(TextColumn):
    """Rows a second, as measured over the last of them."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")


class RoomNotes:
    """Tells people that a queue is full, and again every minute that it is."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._told = float("-inf")

    def __call__(self, full: QueueFull) -> None:
        if self._clock() >= self._told + REMIND_SECONDS:
            self._told = self._clock()
            note(
                "waiting for room in queue {queue!r}: {waiting:,} of at most {limit:,} jobs wait"
                " in it".format_map(full.details)
            )


class OpenAmong:
    """Counts how many of these jobs are open; what has finished is not asked for again."""

    def __init__(self, jobs: JobQueries, job_ids: Sequence[str]) -> None:
        self._jobs = jobs
        self._open = list(dict.fromkeys(job_ids))
        self.states: dict[str, JobState] = {}
        """Of those that have finished."""

    def __call__(self) -> int:
        while self._open:
            asked = self._open[:ASKED_AT_ONCE]
            finished = self._jobs.finished(asked)
            self.states |= finished
            self._open = [
                *(job_id for job_id in asked if job_id not in finished),
                *self._open[ASKED_AT_ONCE:],
            ]
            if len(finished) < len(asked):
                break
        return len(self._open)
