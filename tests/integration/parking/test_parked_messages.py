"""Parked messages in PostgreSQL: kept, counted, bounded, closed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256

import pytest
from sqlalchemy import Engine

from adapters.postgres.engine import create
from adapters.postgres.parked import LOOK_SECONDS, ParkedMessages, PostgresParked
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.parking import Form, Misfit, Parked, Reason
from tests.jobs import accept, submission

ROOMY = 1 << 30


@pytest.fixture
def store(engine: Engine) -> PostgresParked:
    return PostgresParked(engine, most_bytes=ROOMY)


@pytest.fixture
def parked(engine: Engine) -> ParkedMessages:
    return ParkedMessages(engine)


def misfit(content: bytes = b"garbage", reason: Reason = Reason.UNREADABLE) -> Misfit:
    return Misfit(
        queue="allocation",
        reason=reason,
        detail="what lay in the queue is no message",
        form=Form.BYTES,
        content=content,
        size=len(content),
        digest=sha256(content).digest(),
    )


class TestParking:
    def test_keeps_a_message_as_it_came(
        self, store: PostgresParked, parked: ParkedMessages
    ) -> None:
        assert store.park(misfit(b"\x00\xff")) is Parked.NEW

        [message] = parked.newest()
        assert (message.size, message.kept, message.copies) == (2, 2, 1)
        assert parked.find(message.id) == (message, b"\x00\xff")

    def test_counts_copies_of_one_message(
        self, engine: Engine, database_url: str, parked: ParkedMessages
    ) -> None:
        # Each waits for the commits of those before it, however long this machine needs for them.
        patient = create(database_url, pool_size=8, lock_timeout_ms=60_000)
        store = PostgresParked(patient, most_bytes=ROOMY)
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: store.park(misfit()), range(40)))
        patient.dispose()

        assert sorted(found) == [Parked.AGAIN] * 39 + [Parked.NEW]
        [message] = parked.newest()
        assert message.copies == 40

    def test_keeps_a_copy_of_what_was_closed(
        self, store: PostgresParked, parked: ParkedMessages
    ) -> None:
        store.park(misfit())
        parked.drop(parked.open_ids())

        assert store.park(misfit()) is Parked.NEW
        assert len(parked.newest(closed=True)) == 2

    def test_only_counts_where_there_is_no_room(
        self, engine: Engine, parked: ParkedMessages
    ) -> None:
        now = 0.0
        store = PostgresParked(engine, most_bytes=10_000, clock=lambda: now)

        found = [store.park(misfit(bytes([n]) * 3_000)) for n in range(20)]

        assert found == [Parked.NEW] * 3 + [Parked.COUNTED] * 17
        counted, *kept = parked.newest()
        assert (counted.copies, counted.kept) == (17, None)
        assert "TALLYMAN_PARKED_MEGABYTES" in counted.detail
        assert [message.kept for message in kept] == [3_000] * 3

        parked.drop([message.id for message in kept])
        now += LOOK_SECONDS
        assert store.park(misfit(b"again")) is Parked.NEW

    def test_keeps_to_the_room_that_others_take(self, engine: Engine) -> None:
        ours, theirs = (PostgresParked(engine, most_bytes=2_000) for _ in range(2))
        assert ours.park(misfit(b"a" * 2_000)) is Parked.NEW

        assert theirs.park(misfit(b"b")) is Parked.COUNTED

    def test_leaves_what_asks_for_jobs_that_the_ledger_holds(
        self, engine: Engine, store: PostgresParked, parked: ParkedMessages
    ) -> None:
        accept(engine, submission("a"), submission("b"))
        unknown = replace(misfit(), reason=Reason.UNKNOWN_KIND)

        assert store.park(replace(unknown, job_ids=("a", "b", "a"))) is Parked.LEFT
        assert parked.newest() == []
        assert store.park(replace(unknown, job_ids=("a", "c"))) is Parked.NEW


class TestRequeuing:
    def test_closes_a_message_and_forgets_what_it_held(
        self, store: PostgresParked, parked: ParkedMessages
    ) -> None:
        store.park(misfit())
        [number] = parked.open_ids()

        with parked.requeuing(number) as found:
            assert found is not None
            assert found[1] == b"garbage"

        closed = parked.find(number)
        assert closed is not None
        assert (closed[0].closed_as, closed[1]) == ("requeued", None)
        with parked.requeuing(number) as found:
            assert found is None

    def test_leaves_it_open_where_it_could_not_be_sent(
        self, store: PostgresParked, parked: ParkedMessages
    ) -> None:
        store.park(misfit())
        [number] = parked.open_ids()

        with pytest.raises(OSError, match="away"), parked.requeuing(number):
            raise OSError("away")

        assert parked.open_ids() == [number]

    def test_and_parking_again_at_once_keeps_it(
        self, store: PostgresParked, parked: ParkedMessages
    ) -> None:
        # A worker may find that it is still no job before we have noted that it was sent.
        store.park(misfit())
        [number] = parked.open_ids()
        with ThreadPoolExecutor(1) as threads:
            with parked.requeuing(number):
                again = threads.submit(store.park, misfit())

            assert again.result(timeout=30) is Parked.NEW

        assert len(parked.open_ids()) == 1
        assert parked.open_ids() != [number]


class TestAskingForMessages:
    def test_finds_those_that_fit(self, store: PostgresParked, parked: ParkedMessages) -> None:
        store.park(misfit(b"1"))
        store.park(replace(misfit(b"2", Reason.PROTOCOL), queue="users"))
        store.park(misfit(b"3", Reason.PROTOCOL))
        store.park(misfit(b"3", Reason.PROTOCOL))

        assert len(parked.newest()) == 3
        assert len(parked.newest(reason=Reason.PROTOCOL)) == 2
        assert len(parked.newest(reason=Reason.PROTOCOL, queue="users")) == 1
        assert len(parked.newest(limit=1)) == 1
        assert [(each.reason, each.messages, each.copies) for each in parked.counts()] == [
            ("protocol", 2, 3),
            ("unreadable", 1, 1),
        ]


class TestRetention:
    def test_deletes_what_was_closed_long_ago_and_keeps_what_is_open(
        self, engine: Engine, store: PostgresParked, parked: ParkedMessages
    ) -> None:
        for content in (b"open", b"closed", b"just now"):
            store.park(misfit(content))
        _, *closed = parked.open_ids()
        parked.drop(closed)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE parked_message SET parked_at = now() - interval '1 year',"
                " closed_at = closed_at - CASE id WHEN %(id)s THEN interval '31 days' ELSE '0' END",
                {"id": closed[0]},
            )

        with BeginPostgresWork(engine=engine)() as work:
            pruned = work.retention.prune(older_than_days=30, at_most=100)
            work.commit()

        assert pruned["parked_messages"] == 1
        left = parked.newest(closed=True)
        assert [message.closed_as for message in left] == ["dropped", None]
