"""What a board sees of the database, and what that costs."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine

from adapters.postgres import board as module
from adapters.postgres.board import PostgresBoard, Sight
from domain.errors import Unavailable
from domain.imports.runs import RunState
from domain.jobs.model import JobState
from domain.jobs.queues import QUEUES
from tests.conftest import wait_until
from tests.ended_jobs import (
    ORDER,
    REGISTER,
    attempt_failed,
    do,
    ended,
    failure,
    happened,
    imported,
    seconds,
)
from tests.jobs import accept, submission
from worker.board.history import BACK, History


@pytest.fixture
def board(database_url: str) -> Iterator[PostgresBoard]:
    board = PostgresBoard(database_url)
    yield board
    board.close()


@pytest.fixture
def now(engine: Engine) -> datetime:
    """Give the database's clock, at the beginning of a second."""
    with engine.connect() as connection:
        found: datetime = connection.exec_driver_sql("SELECT now()").scalar_one()
    return found.replace(microsecond=0)


def look(board: PostgresBoard, *, since: datetime | None = None) -> Sight:
    return board.look(QUEUES, since=since, back=BACK)


class TestFinishedJobs:
    def test_are_counted_by_second_and_state(
        self, engine: Engine, board: PostgresBoard, now: datetime
    ) -> None:
        ended(engine, at=now - seconds(30), jobs=3)
        ended(engine, at=now - seconds(29.4), state="rejected", error=failure("OutOfStock"))
        ended(engine, at=now - seconds(10), state="dead", error=failure("Boom"))
        ended(engine, at=now - BACK - seconds(5))
        seen = look(board)
        with engine.connect() as connection:
            after = connection.exec_driver_sql("SELECT now()").scalar_one()
        assert [(each.second, each.state, each.jobs) for each in seen.finished] == [
            (now - seconds(30), JobState.REJECTED, 1),
            (now - seconds(30), JobState.SUCCEEDED, 3),
            (now - seconds(10), JobState.DEAD, 1),
        ]
        assert now - BACK <= seen.since <= after - BACK

    def test_are_asked_for_once_more_from_where_the_last_look_ended(
        self, engine: Engine, board: PostgresBoard, now: datetime
    ) -> None:
        ended(engine, at=now - seconds(40), jobs=100)
        history = History().after(look(board))
        # Committed after the look, in a second that it has seen.
        late = history.end
        assert late is not None
        ended(engine, at=late, jobs=7)
        again = look(board, since=history.ask_from)
        assert sum(each.jobs for each in again.finished) == 7
        history = history.after(again)
        assert history.states == {JobState.SUCCEEDED: 107}

    def test_are_not_all_counted_where_there_are_too_many(
        self, engine: Engine, board: PostgresBoard, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_FINISHED", 10)
        ended(engine, at=now - seconds(60), jobs=8)
        ended(engine, at=now - seconds(50), jobs=6)
        seen = look(board)
        assert [(each.second, each.jobs) for each in seen.finished] == [(now - seconds(50), 6)]
        # Of what came before, nothing is said: not even that there was nothing.
        assert seen.since == now - seconds(59)
        assert History().after(seen).rates(5)[:3] == [None, None, None]


class TestFailingKinds:
    def test_tell_their_commonest_error(
        self, engine: Engine, board: PostgresBoard, now: datetime
    ) -> None:
        order = ended(engine, at=now)
        for error in ("Rare", "Common", "Common"):
            attempt_failed(engine, order, at=now - seconds(60), error=failure(error, error.lower()))
        attempt_failed(engine, order, at=now - timedelta(minutes=20), error=failure("Old"))
        ended(engine, at=now, state="dead", kind=REGISTER, queue="users", error=failure("Lost"))
        [first, second] = look(board).failing
        assert (first.kind, first.failures, first.dead) == (ORDER, 3, 0)
        assert (first.error, first.message) == ("Common", "common")
        assert (second.kind, second.failures, second.dead) == (REGISTER, 0, 1)
        assert second.error == "Lost"


class TestImports:
    def test_tell_how_far_they_are_and_how_fast(
        self, engine: Engine, board: PostgresBoard, now: datetime
    ) -> None:
        imported(
            engine, "r", at=now - seconds(100), state="running", rows=1000, ends={"created": 400}
        )
        imported(engine, "done", at=now)
        for number, ago in ((1, 80), (2, 10)):
            do(
                engine,
                "INSERT INTO import_chunk (run_id, number, first_line, rows, finished_at)"
                f" VALUES ('r', {number}, 1, 300, %(at)s)",
                at=now - seconds(ago),
            )
        [run] = look(board).imports
        assert (run.id, run.state, run.rows, run.rows_done) == ("r", RunState.RUNNING, 1000, 400)
        assert run.rows_per_second == pytest.approx(300 / module.RATE_SECONDS)
        assert run.seconds_left == pytest.approx(60)
        assert run.reason is None

    def test_tell_what_holds_them_up(
        self, engine: Engine, board: PostgresBoard, now: datetime
    ) -> None:
        imported(engine, "r", at=now, state="running", rows=10, ends={})
        ended(engine, at=now, state="dead", job_id="r:1", error=failure("Boom"))
        do(engine, "UPDATE job SET correlation_id = 'r'")
        [run] = look(board).imports
        assert (run.reason, run.seconds_left) == ("Boom", None)


class TestLeftOvers:
    def test_are_counted(self, engine: Engine, board: PostgresBoard, now: datetime) -> None:
        assert (look(board).dead, look(board).events, look(board).events_age) == (0, 0, None)
        ended(engine, at=now - timedelta(days=20), state="dead", error=failure("Boom"), jobs=2)
        happened(engine, "OutOfStock", {}, at=now - seconds(90))
        happened(engine, "OutOfStock", {}, at=now)
        do(
            engine,
            "INSERT INTO parked_message (queue, reason, detail, form, size, digest)"
            " VALUES ('users', 'not_a_task', 'x', 'bytes', 0, 'x')",
        )
        seen = look(board)
        assert (seen.dead, seen.parked, seen.events) == (2, 1, 2)
        assert seen.events_age is not None
        assert seen.events_age >= seconds(90)


class TestLooking:
    def test_waits_for_no_lock_on_a_row_and_takes_none(
        self, engine: Engine, board: PostgresBoard
    ) -> None:
        accept(engine, submission("held"))
        with engine.begin() as other:
            other.exec_driver_sql("SELECT FROM job FOR UPDATE")
            assert look(board).queues[0].level.waiting == 1

    def test_is_given_up_where_it_takes_too_long(
        self, engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "LOOK_SECONDS", 1)
        board = PostgresBoard(database_url)
        with engine.begin() as other:
            other.exec_driver_sql("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(Unavailable, match="more than 1 seconds"):
                look(board)

        def is_seen_again() -> bool:
            # A second may be too short for this one, too, on a busy machine.
            with suppress(Unavailable):
                return look(board).dead == 0
            return False

        wait_until(is_seen_again)
        board.close()

    def test_uses_one_connection(self, engine: Engine, board: PostgresBoard) -> None:
        look(board)
        look(board)
        with engine.connect() as connection:
            sessions = connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'tallyman top' AND datname = current_database()"
            ).scalar_one()
        assert sessions == 1

    @pytest.mark.parametrize(
        "statement", ["_FINISHED", "_FAILURES", "_DEAD", "_IMPORTS", "_LEFT_OVER"]
    )
    def test_reads_no_large_table_whole(
        self, engine: Engine, now: datetime, statement: str
    ) -> None:
        ended(engine, at=now - timedelta(days=1), jobs=20_000)
        dead = ended(engine, at=now, state="dead", error=failure("Boom"), jobs=50)
        attempt_failed(engine, dead, at=now, error=failure("Boom"))
        happened(engine, "OutOfStock", {}, at=now)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
            plan = "\n".join(
                connection.exec_driver_sql(
                    f"EXPLAIN {getattr(module, statement)}",
                    {"since": now - BACK, "most": 100, "minutes": 15, "seconds": 30},
                ).scalars()
            )
        assert "Seq Scan on job " not in plan, plan
