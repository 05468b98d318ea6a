"""One run from start to end: load, faults, drain, verdict."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.chaos.arena import ROOT, Arena, arena
from tests.chaos.checker import Verdict, check
from tests.chaos.consumer import Consumer
from tests.chaos.history import History
from tests.chaos.nemesis import Nemesis, Plan
from tests.chaos.recovery import Recovery, recoveries

DRAIN_SECONDS = 120.0
"""Time that everything open has to come to its end, once load and faults have ended."""
SETTLE_SECONDS = 1.0
QUEUES = ("allocation", "users", "maintenance")
LOOK_SECONDS = 0.25

# Redis may have forgotten a message that a worker's process still has in hand.
_IN_HAND = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'tallyman %:%'
  AND xact_start IS NOT NULL"""
_OPEN = """
SELECT (SELECT count(*) FROM job WHERE state IN ('queued', 'retry'))
     + (SELECT count(*) FROM outbox WHERE published_at IS NULL)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run."""

    name: str
    verdict: Verdict
    recoveries: Mapping[str, Sequence[Recovery]]
    """By kind of fault."""
    not_applied: Mapping[str, str]
    """Why, by kind of fault that was never brought about."""
    restarts: int
    """Times that a process was started again."""
    load_seconds: float
    drain_seconds: float


def run(plan: Plan, *, name: str, folder: Path, pause: float) -> Outcome:
    """Run load and nemesis, wait until all is done, and judge; `folder` keeps the evidence.

    `pause` is the time in seconds between two actions of a client.
    """
    with arena(folder, disk_size=plan.disk_size) as place:
        nemesis = Nemesis(arena=place, plan=plan)
        began = time.monotonic()
        with Consumer(place):
            with _load(place, plan.seed, pause):
                _wait_for_jobs(place)
                nemesis.run()
            load_seconds = time.monotonic() - began
            drain_seconds = _drain(place)
        restarts = place.programs.starts.total() - len(place.programs.kept)
        verdict = check(place.history, place.postgres.url(), stream_url=place.valkey.url())
        if not verdict.is_good:
            _keep_tables(place)
        return Outcome(
            name=name,
            verdict=verdict,
            recoveries=recoveries(place.history, place.postgres.url()),
            not_applied={
                kind: why for kind, why in nemesis.not_applied.items() if kind not in verdict.faults
            },
            restarts=restarts,
            load_seconds=load_seconds,
            drain_seconds=drain_seconds,
        )


@contextmanager
def _load(place: Arena, seed: int, pause: float) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.chaos.load"]
    options = {
        "seed": seed,
        "history": place.history,
        "database-url": place.database_url,
        "broker-url": place.broker_url,
        "pause": pause,
    }
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    with (place.folder / "load.log").open("ab") as log:
        clients = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
        if clients.poll() is not None:
            raise RuntimeError(f"the load has ended by itself: see {place.folder / 'load.log'}")
    finally:
        clients.terminate()
        try:
            clients.wait(30)
        except subprocess.TimeoutExpired:
            clients.kill()
            clients.wait()


def _wait_for_jobs(place: Arena) -> None:
    """Wait until jobs are being done: a fault before that would prove nothing."""
    deadline = time.monotonic() + 60
    with place.administer() as connection:
        while not _count(connection, "SELECT count(*) FROM job WHERE state = 'succeeded'"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no job was done within 60 s: see the logs in {place.folder}")
            time.sleep(LOOK_SECONDS)


def _drain(place: Arena) -> float:
    """Wait until nothing is open, and nothing that waits in the broker could open anything."""
    began = time.monotonic()
    with place.administer() as connection, place.valkey_client() as client:
        # In this order, which is that of a job's way: what has just left the one is in the next.
        while _messages(client) or _count(connection, _IN_HAND) or _count(connection, _OPEN):
            if time.monotonic() - began > DRAIN_SECONDS:
                break
            time.sleep(LOOK_SECONDS)
    seconds = time.monotonic() - began
    with History(place.history / "drain.jsonl") as told:
        told.drained(seconds=seconds, allowed=DRAIN_SECONDS)
    time.sleep(SETTLE_SECONDS)
    return seconds


def _messages(client: "redis.Redis") -> int:
    """Count what waits and what is taken, in one step: a message may go from one to the other."""
    with client.pipeline(transaction=True) as pipeline:
        for queue in QUEUES:
            pipeline.llen(queue)
        pipeline.hlen("unacked")
        return sum(pipeline.execute())


def _count(connection: "psycopg.Connection[tuple[object, ...]]", query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]


def _keep_tables(place: Arena) -> None:
    """Write every table to the evidence: the server's data will be gone."""
    folder = place.folder / "tables"
    folder.mkdir(exist_ok=True)
    with place.administer() as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        for (table,) in tables:
            with (
                (folder / f"{table}.csv").open("wb") as file,
                connection.cursor().copy(
                    f"COPY {table} TO STDOUT WITH (FORMAT csv, HEADER)".encode()
                ) as rows,
            ):
                for piece in rows:
                    file.write(piece)
