"""Waiting for jobs to finish, with a bar for people to look at."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from adapters.postgres.persistence import Persistently
from adapters.postgres.queries import JobQueries
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
