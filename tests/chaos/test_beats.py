"""Three beats at once, of which one dies and one sleeps."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Connection, Engine

from domain.jobs.model import JobState
from tests.chaos.programs import Programs
from tests.chaos.ticking import NAME, Tick
from tests.e2e.processes import ProcessContainer, eventually

TICKS = 10
PREFIX = f"sched:{NAME}:"
HANDED_OVER = re.compile(rf"job_id={PREFIX}(\S+)")


@pytest.fixture
def programs(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Programs]:
    """Give a worker and a relay that run, and a place for beats."""
    with Programs(
        folder=tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        settings={"concurrency": 2, "relay_poll_seconds": 0.2},
    ) as programs:
        programs.start("worker", module="tests.chaos.ticking")
        programs.start("relay")
        yield programs


def handed_over(beat: ProcessContainer) -> list[datetime]:
    """Return the ticks that a beat has handed to the ledger, in order, by its log."""
    return [moment(slot) for slot in HANDED_OVER.findall(beat.logs())]


def by_all(beats: Sequence[ProcessContainer]) -> set[datetime]:
    """Return the ticks that each of these has handed over."""
    return set.intersection(*(set(handed_over(beat)) for beat in beats))


def put_to_sleep(beat: ProcessContainer, connection: Connection) -> psutil.Process:
    """Stop a beat between two ticks: in the middle of one it would keep it from the others."""
    assert beat._process is not None
    process = psutil.Process(beat._process.pid)

    def sleeps() -> bool:
        process.suspend()
        eventually(lambda: process.status() == psutil.STATUS_STOPPED, what="it stands still")
        ports = [each.laddr.port for each in process.net_connections(kind="tcp")]
        busy = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE client_port = ANY(%(ports)s) AND state <> 'idle'",
            {"ports": ports},
        ).scalar_one()
        connection.rollback()
        if busy:
            process.resume()
        return not busy

    eventually(sleeps, what="it stands still between two ticks")
    return process


def has_handed_over(beat: ProcessContainer, ticks: int) -> bool:
    return len(handed_over(beat)) >= ticks


def moment(slot: str) -> datetime:
    return datetime.strptime(slot, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def steps(ticks: list[datetime]) -> set[timedelta]:
    return {after - before for before, after in pairwise(ticks)}


def slots(connection: Connection) -> list[datetime]:
    """Return the ticks that the ledger has, in order."""
    found = connection.exec_driver_sql(
        "SELECT id FROM job WHERE kind = %(kind)s ORDER BY id", {"kind": Tick.kind}
    ).scalars()
    connection.rollback()
    return [moment(job_id.removeprefix(PREFIX)) for job_id in found]


class TestThreeBeats:
    def test_have_each_tick_run_once_though_one_is_killed_and_one_is_stopped(
        self, programs: Programs, engine: Engine, connection: Connection
    ) -> None:
        beats = [programs.start("beat", module="tests.chaos.ticking") for _ in range(3)]
        # Each of these is handed over three times.
        eventually(lambda: len(by_all(beats)) >= TICKS, what="ten ticks of all three")

        killed, stopped, _ = beats
        killed.kill()
        sleeper = put_to_sleep(stopped, connection)
        asleep, known = len(handed_over(stopped)), len(slots(connection))
        eventually(lambda: len(slots(connection)) >= known + TICKS // 2, what="the third goes on")
        assert len(handed_over(stopped)) == asleep
        sleeper.resume()
        eventually(
            partial(has_handed_over, stopped, asleep + TICKS),
            what="what was slept through is made up",
        )
        for beat in beats[1:]:
            beat.kill()

        eventually(lambda: not _open(connection), what="all ticks are done")
        ticks = slots(connection)
        assert len(ticks) >= 2 * TICKS
        assert steps(ticks) == {timedelta(seconds=1)}
        # Each left out none, though a second one changes nothing.
        for beat in beats:
            assert steps(handed_over(beat)) == {timedelta(seconds=1)}
        jobs = connection.exec_driver_sql(
            "SELECT id, state, attempts FROM job WHERE kind = %(kind)s", {"kind": Tick.kind}
        ).all()
        assert {(job.state, job.attempts) for job in jobs} == {(JobState.SUCCEEDED, 1)}
        events = connection.exec_driver_sql(
            "SELECT job_id FROM outbox WHERE name = 'Ticked'"
        ).scalars()
        assert Counter(events) == Counter(job.id for job in jobs)


def _open(connection: Connection) -> int:
    count = connection.exec_driver_sql(
        "SELECT count(*) FROM job WHERE finished_at IS NULL"
    ).scalar_one()
    connection.rollback()
    return int(count)
