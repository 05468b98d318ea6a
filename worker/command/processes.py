"""`tallyman worker`, `relay`, `beat`, `metrics` and `flower`: the processes of a running system."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import structlog
import typer

from domain.jobs.queues import QUEUES
from worker import processes
from worker.command.explanations import explain
from worker.settings import SettingsError, load

log = structlog.get_logger()


def worker(
    *,
    queues: Annotated[
        str, typer.Option(help="Queues to take jobs from, separated by commas.")
    ] = ",".join(QUEUES),
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Worker processes; TALLYMAN_CONCURRENCY if not given."),
    ] = None,
) -> None:
    """Run jobs until SIGTERM or Ctrl-C; what runs then comes to its end."""
    settings = load()
    chosen = [name.strip() for name in queues.split(",") if name.strip()]
    unknown = sorted(set(chosen) - set(QUEUES))
    if unknown or not chosen:
        raise SettingsError(
            f"--queues: no queue is called {', '.join(unknown) or repr(queues)};"
            f" known: {', '.join(QUEUES)}"
        )
    with _bugs_logged():
        code = processes.run_worker(
            settings, queues=chosen, concurrency=concurrency or settings.concurrency
        )
    raise typer.Exit(code)


def relay() -> None:
    """Tell the workers which jobs are due; any number of relays may run."""
    with _bugs_logged():
        processes.run_relay(load())


def beat() -> None:
    """Submit what the clock asks for; any number of beats may run."""
    with _bugs_logged():
        processes.run_beat(load())


def metrics() -> None:
    """Tell Prometheus how the ledger stands, at http://127.0.0.1:9465/metrics; one is enough."""
    with _bugs_logged():
        processes.run_metrics(load())


def flower() -> None:
    """Serve Flower, Celery's dashboard."""
    with _bugs_logged():
        processes.run_flower(load())


@contextmanager
def _bugs_logged() -> Iterator[None]:
    """Log where a process failed for a reason that nobody foresaw: its log is all it leaves."""
    try:
        yield
    except Exception as error:
        if explain(error) is None:
            log.exception("process_failed")
        raise
