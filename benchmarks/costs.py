"""What a job costs, by part: processor time, which changes little with what else a machine does."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median

import psutil

from adapters.embedded.servers import EmbeddedServers
from benchmarks.celery_contenders import run_accepted
from benchmarks.orders import Load
from benchmarks.stage import Stage, check, connected, count

CORES = os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds of a processor that a job takes, and bytes of write-ahead log."""

    worker: float
    """In worker processes."""
    parent: float
    """In the parent of the worker processes."""
    relay: float
    database: float
    broker: float
    log_bytes: float

    def times(self, factor: float) -> "Costs":
        """Return what they are where a processor has less time for them."""
        return Costs(**{name: factor * cost for name, cost in asdict(self).items()})


def measure(
    load: Load, *, workers: Sequence[int], rounds: int
) -> tuple[Costs, dict[int, float], dict[int, float]]:
    """Return costs, and by worker processes the jobs a second and the cores that were free."""
    costs: list[Costs] = []
    rates: dict[int, list[float]] = {number: [] for number in workers}
    free: dict[int, list[float]] = {number: [] for number in workers}
    with tempfile.TemporaryDirectory(prefix="tallyman-bench-") as folder:
        embedded = EmbeddedServers(Path(folder))
        try:
            stage = Stage(servers=embedded.start(), logs=Path(folder), processes=max(workers))
            for _ in range(rounds):
                for number in workers:
                    fewer = replace(stage, processes=number)
                    with fewer.database(load) as url:
                        spending = Spending(embedded, url)
                        timing = run_accepted(fewer, load, url, watch=spending.watch)
                        check(url, load)
                    rates[number].append(timing.rate)
                    free[number].append(spending.free_cores)
                    costs.append(spending.costs(load.orders))
        finally:
            embedded.remove_data()
    middle = {
        part.name: median(getattr(each, part.name) for each in costs) for part in fields(Costs)
    }
    return Costs(**middle), _medians(rates), _medians(free)


def _medians(found: dict[int, list[float]]) -> dict[int, float]:
    return {workers: median(values) for workers, values in found.items()}


class Spending:
    """Adds up what processes have spent between two moments."""

    def __init__(self, embedded: EmbeddedServers, url: str) -> None:
        self._embedded = embedded
        self._url = url
        self._spent: dict[str, float] = {}
        self._log_bytes = 0
        self.free_cores = float(CORES)
        """Cores that nobody else used meanwhile, on average."""

    @contextmanager
    def watch(self, worker: int, relay: int) -> Iterator[None]:
        """Count from here on, until the context ends."""
        parts: dict[str, Callable[[], list[psutil.Process]]] = {
            "worker": lambda: psutil.Process(worker).children(),
            "parent": lambda: [psutil.Process(worker)],
            "relay": lambda: [psutil.Process(relay)],
            "database": lambda: psutil.Process(self._embedded.postgres.pid).children(),
            "broker": lambda: [psutil.Process(self._embedded.valkey.pid)],
        }
        before = {name: _seconds(find()) for name, find in parts.items()}
        log, busy, began = self._log(), _busy_seconds(), time.monotonic()
        yield
        seconds = time.monotonic() - began
        busy = _busy_seconds() - busy
        self._log_bytes = self._log() - log
        for name, find in parts.items():
            self._spent[name] = sum(
                spent - before[name].get(pid, 0.0) for pid, spent in _seconds(find()).items()
            )
        others = max(0.0, busy - sum(self._spent.values())) / seconds
        self.free_cores = max(0.5, CORES - others)

    def costs(self, jobs: int) -> Costs:
        each = {name: seconds / jobs for name, seconds in self._spent.items()}
        return Costs(**each, log_bytes=self._log_bytes / jobs)

    def _log(self) -> int:
        with connected(self._url) as connection:
            return count(connection, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")


def _busy_seconds() -> float:
    """Return the processor time of everything on this machine since its start."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _seconds(processes: list[psutil.Process]) -> dict[int, float]:
    found: dict[int, float] = {}
    for running in processes:
        try:
            times = running.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[running.pid] = times.user + times.system
    return found
