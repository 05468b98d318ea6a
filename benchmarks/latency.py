"""From handing a job over to its committed result, at half of what a contender can do.

And at a rate that is the same for all: nearly what stock Celery can do.

Jobs are due at fixed times, whether or not the one before is done: who falls behind is measured
from when a job was due, not from when there was time for it.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import psycopg
import redis
from celery import Celery

from adapters.broker import EPOCH_KEY
from benchmarks.celery_contenders import QUEUE, relay, tallyman_worker
from benchmarks.orders import Load
from benchmarks.peers.gate import crew
from benchmarks.stack import celery_worker, plain, wait_until
from benchmarks.stage import Stage
from worker import collector

PRODUCERS = 2
MOST_SECONDS = 4.0
"""How long producers hand jobs over as fast as they can, to find what a contender can do."""
NEARLY = 0.9
"""The rate that is the same for all, beside what stock Celery can do."""
PACED_SECONDS = 15.0
META = "celery-task-meta-"
LOOK_SECONDS = 0.002
"""How often the ledger is asked for what has finished: so much may be added to a time."""
LATE_SECONDS = 0.02
"""How long a commit may take after its job's `finished_at` to be seen at once."""
VERY_LATE_SECONDS = 1.0
"""How long it may take to be seen at all, by one look of many: to read more takes time."""
LOOKS = 50
"""Looks of which one sees what is very late."""
_FINISHED = """
SELECT id, extract(epoch FROM finished_at)::float8 FROM job WHERE finished_at > to_timestamp(%s)"""

Seen = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """How long jobs took that were handed over at a rate."""

    rate: float
    """Jobs a second."""
    milliseconds: list[float] = field(repr=False)

    def percentile(self, percent: int) -> float:
        return quantiles(self.milliseconds, n=100)[percent - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long jobs of a contender took."""

    most: float
    """Jobs a second, as fast as producers and workers go."""
    half: Paced
    """At half of that."""
    common: Paced
    """At the rate that is the same for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A contender that is up, and what was seen of its results."""

    environment: Mapping[str, str]
    seen: Seen
    logs: Path

    def hand_over(self, door: str, *, rate: float, seconds: float, first: int) -> Seen:
        """Hand jobs over; return when each was due, once all are done."""
        with (
            TemporaryDirectory() as folder,
            crew(
                "benchmarks.pacer",
                door,
                folder,
                str(rate / PRODUCERS),
                str(seconds),
                str(first),
                processes=PRODUCERS,
                environment=dict(self.environment),
                log=self.logs / "pacer.log",
            ) as producers,
        ):
            producers.race()
            due: Seen = {}
            for path in Path(folder).iterdir():
                due |= json.loads(path.read_text())
        wait_until(lambda: self.seen.keys() >= due.keys(), seconds=60, every=0.05)
        return due


def measure(stage: Stage, door: str, *, common: float | None = None) -> Latency:
    """Find what a contender can do, then measure it at half of that, and at `common` jobs a second.

    Where that is not given, it is nearly what this contender can do.
    """
    # What looks for cycles here would see results late.
    collector.calm()
    with RUNNERS[door](stage) as runner:
        runner.hand_over(door, rate=0, seconds=1, first=0)
        due = runner.hand_over(door, rate=0, seconds=MOST_SECONDS, first=1_000_000)
        took = max(runner.seen[job_id] for job_id in due) - min(due.values())
        most = len(due) / took
        return Latency(
            most=most,
            half=_paced(runner, door, most / 2, first=2_000_000),
            common=_paced(runner, door, common or NEARLY * most, first=3_000_000),
        )


def _paced(runner: Runner, door: str, rate: float, *, first: int) -> Paced:
    due = runner.hand_over(door, rate=rate, seconds=PACED_SECONDS, first=first)
    return Paced(
        rate=rate,
        milliseconds=[1_000 * (runner.seen[job_id] - moment) for job_id, moment in due.items()],
    )


@contextmanager
def _stock(stage: Stage) -> Iterator[Runner]:
    broker = stage.empty_broker()
    app = Celery(broker=stage.servers.broker_url)
    with (
        celery_worker(
            app,
            "benchmarks.stock_app",
            processes=stage.processes,
            environment={
                "TALLYMAN_BROKER_URL": stage.servers.broker_url,
                "BENCH_RESULTS_URL": stage.servers.broker_url,
            },
            log=stage.log("stock"),
        ),
        _results(broker) as seen,
    ):
        app.control.add_consumer(QUEUE, reply=True)
        yield Runner(
            environment={"BENCH_BROKER_URL": stage.servers.broker_url}, seen=seen, logs=stage.logs
        )


@contextmanager
def _door_a(stage: Stage) -> Iterator[Runner]:
    broker = stage.empty_broker()
    app = Celery(broker=stage.servers.broker_url)
    with (
        stage.database(Load(orders=0)) as url,
        tallyman_worker(app, stage, url),
        _results(broker) as seen,
    ):
        app.control.add_consumer(QUEUE, reply=True)
        yield Runner(
            environment={"BENCH_BROKER_URL": stage.servers.broker_url}, seen=seen, logs=stage.logs
        )


@contextmanager
def _door_b(stage: Stage) -> Iterator[Runner]:
    broker = stage.empty_broker()
    app = Celery(broker=stage.servers.broker_url)
    with (
        stage.database(Load(orders=0)) as url,
        tallyman_worker(app, stage, url),
        relay(stage, url),
        _commits(url) as seen,
    ):
        wait_until(lambda: broker.exists(EPOCH_KEY))
        app.control.add_consumer(QUEUE, reply=True)
        yield Runner(environment={"BENCH_DATABASE_URL": url}, seen=seen, logs=stage.logs)


@contextmanager
def _results(broker: redis.Redis) -> Iterator[Seen]:
    """Note when results reach Redis, where clients of Celery wait for them."""

    def look() -> None:
        message = listener.get_message(timeout=0.5)
        if message and message["type"] == "pmessage":
            job_id = message["channel"].decode().removeprefix(META)
            seen.setdefault(job_id, time.time())

    seen: Seen = {}
    with broker.pubsub() as listener:
        listener.psubscribe(META + "*")
        with _watching(look):
            yield seen


@contextmanager
def _commits(url: str) -> Iterator[Seen]:
    """Note when outcomes can be seen in the ledger."""
    seen: Seen = {}
    newest = time.time()
    looks = count()

    def look() -> None:
        nonlocal newest
        began = time.monotonic()
        late = LATE_SECONDS if next(looks) % LOOKS else VERY_LATE_SECONDS
        rows = connection.execute(_FINISHED, [newest - late]).fetchall()
        now = time.time()
        for job_id, finished in rows:
            seen.setdefault(job_id, now)
            newest = max(newest, finished)
        time.sleep(max(0.0, LOOK_SECONDS - (time.monotonic() - began)))

    # By index, whatever PostgreSQL thinks of a table that was empty a moment ago.
    by_index = "-c enable_seqscan=off"
    with (
        psycopg.connect(plain(url), autocommit=True, options=by_index) as connection,
        _watching(look),
    ):
        yield seen


@contextmanager
def _watching(look: Callable[[], None]) -> Iterator[None]:
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.is_set():
            look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stopping.set()
        watcher.join()


RUNNERS: dict[str, Callable[[Stage], AbstractContextManager[Runner]]] = {
    "celery-noop": _stock,
    "tallyman-a": _door_a,
    "tallyman-b": _door_b,
}
