"""`tallyman_submit`, in SQL, does what the producer does."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import errors
from psycopg.types.json import Jsonb
from sqlalchemy import Engine

from adapters.payloads import Payloads
from adapters.postgres.ledger import CHANNEL
from adapters.postgres.queue_gauges import PostgresQueueGauges
from adapters.postgres.queue_settings import PostgresQueueSettings
from domain.errors import InvalidPayload
from domain.jobs.errors import IdempotencyConflict, QueueFull
from domain.jobs.model import MOST_PAYLOAD_BYTES, JobState, Submission
from domain.kinds import KINDS
from tests.conftest import wait_until
from tests.jobs import build_executor, find
from worker.producer import Producer

KIND = "allocation.create_batch"
BATCH = {"reference": "B1", "sku": "LAMP", "quantity": 5}
PLACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

Sql = psycopg.Connection[tuple[Any, ...]]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
"""What a payload may be made of."""


@pytest.fixture
def sql(database_url: str) -> Iterator[Sql]:
    """Give a connection as any program has one that knows nothing of Tallyman's code."""
    url = database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def producer(database_url: str) -> Iterator[Producer]:
    with Producer.at(database_url) as producer:
        yield producer


def submit(
    sql: Sql, kind: str, payload: Mapping[str, Any] | None, **terms: object
) -> tuple[Any, ...]:
    """Call the function; return (id, state, is_new)."""
    named = "".join(f", {name} => %({name})s" for name in terms)
    row = sql.execute(
        f"SELECT * FROM tallyman_submit(%(kind)s, %(payload)s{named})",
        {"kind": kind, "payload": None if payload is None else Jsonb(payload), **terms},
    ).fetchone()
    assert row is not None
    return row


def row_of(sql: Sql, job_id: str) -> dict[str, Any]:
    with sql.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        row = cursor.execute("SELECT * FROM job WHERE id = %s", [job_id]).fetchone()
    assert row is not None
    return {
        name: value
        for name, value in row.items()
        if name not in {"id", "created_at", "next_dispatch"}
    }


class TestSubmitWithSql:
    def test_writes_the_row_that_the_producer_writes(self, sql: Sql, producer: Producer) -> None:
        terms = {"priority": 3, "correlation_id": "why", "traceparent": PLACE}
        for kind in KINDS:
            # Whether the fields fit is for who runs it to say.
            payload = {"z": [1, {"b": None, "a": 'ä\n"\\\x07'}], "aa": True, "kind": kind}
            submit(sql, kind, payload, job_id=f"sql {kind}", **terms)
            submission = Submission(
                job_id=f"python {kind}",
                kind=kind,
                payload=payload,
                priority=3,
                correlation_id="why",
                traceparent=PLACE,
            )
            producer.submit_many([submission])
            assert row_of(sql, f"sql {kind}") == row_of(sql, f"python {kind}")

    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(payload=st.dictionaries(st.text(), JSON, max_size=5))
    @example(payload={"\\u0000": "\\\\u0000"})
    @example(payload={"text": "\\\0"})
    def test_knows_every_payload_for_what_the_producer_takes_it_for(
        self, sql: Sql, payload: dict[str, Any]
    ) -> None:
        try:
            expected = Submission(job_id="a", kind=KIND, payload=payload).text
        except InvalidPayload:
            with pytest.raises((errors.UntranslatableCharacter, UnicodeEncodeError)):
                sql.execute("SELECT tallyman_canonical(%s, 64)", [Jsonb(payload)])
            return
        row = sql.execute("SELECT tallyman_canonical(%s, 64)", [Jsonb(payload)]).fetchone()
        assert row == (expected,)

    def test_answers_an_id_that_it_knows(self, sql: Sql, producer: Producer) -> None:
        assert submit(sql, KIND, BATCH, job_id="a") == ("a", "queued", True)
        assert submit(sql, KIND, BATCH, job_id="a") == ("a", "queued", False)
        assert not producer.submit(KIND, BATCH, job_id="a").is_new
        producer.submit(KIND, BATCH, job_id="b")
        assert submit(sql, KIND, BATCH, job_id="b") == ("b", "queued", False)

    def test_says_how_a_job_has_ended(self, sql: Sql, engine: Engine) -> None:
        submit(sql, KIND, BATCH, job_id="a")
        build_executor(engine, KINDS).run_dispatched(KIND, ["a"], redelivered=False)
        assert find(engine, "a").state is JobState.SUCCEEDED
        assert submit(sql, KIND, BATCH, job_id="a") == ("a", "succeeded", False)

    def test_refuses_an_id_with_another_payload(self, sql: Sql, producer: Producer) -> None:
        submit(sql, KIND, BATCH, job_id="a")
        with pytest.raises(errors.UniqueViolation, match="used before with another payload"):
            submit(sql, KIND, {**BATCH, "quantity": 6}, job_id="a")
        with pytest.raises(IdempotencyConflict):
            producer.submit(KIND, {**BATCH, "quantity": 6}, job_id="a")

    def test_makes_an_id_where_none_is_given(self, sql: Sql) -> None:
        first, second = submit(sql, KIND, BATCH), submit(sql, KIND, BATCH)
        assert first[0] != second[0]
        assert row_of(sql, first[0])["correlation_id"] == first[0]

    def test_wakes_the_relay_with_the_commit_and_not_before(
        self, sql: Sql, database_url: str
    ) -> None:
        sql.execute(f"LISTEN {CHANNEL}")
        url = database_url.replace("postgresql+psycopg://", "postgresql://")
        with psycopg.connect(url) as other:
            submit(other, KIND, BATCH, job_id="a")
            other.rollback()
            assert sql.execute("SELECT count(*) FROM job").fetchone() == (0,)
            submit(other, KIND, BATCH, job_id="b")
            other.commit()
        assert len(list(sql.notifies(timeout=60, stop_after=1))) == 1

    def test_accepts_one_of_two_that_come_at_once(self, sql: Sql, database_url: str) -> None:
        url = database_url.replace("postgresql+psycopg://", "postgresql://")
        with (
            psycopg.connect(url) as other,
            # Within a transaction, the first look at what others do is all there is.
            psycopg.connect(url, autocommit=True) as observer,
            ThreadPoolExecutor(1) as thread,
        ):
            assert submit(other, KIND, BATCH, job_id="a")[2] is True
            second = thread.submit(submit, sql, KIND, BATCH, job_id="a")
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            wait_until(lambda: second.done() or observer.execute(waits).fetchone() != (0,))
            other.commit()
            assert second.result(timeout=60) == ("a", "queued", False)

    @pytest.mark.parametrize(
        ("terms", "message"),
        [
            ({"kind": "no.such"}, "no job kind is called 'no.such'"),
            ({"kind": None}, "no job kind is called NULL"),
            ({"payload": None}, "a payload is a JSON object"),
            ({"payload": [1]}, "a payload is a JSON object"),
            ({"payload": {"quantity": 1.5}}, "integers, got 1.5"),
            ({"job_id": ""}, "printable"),
            ({"job_id": "a\nb"}, "printable"),
            ({"job_id": "a\u00a0b"}, "printable"),
            ({"job_id": "a" * 256}, "printable"),
            ({"correlation_id": "\x07"}, "printable"),
            ({"priority": 10}, "priority must be 0 to 9, got 10"),
            ({"priority": None}, "priority must be 0 to 9"),
        ],
    )
    def test_refuses_what_cannot_be_a_job(
        self, sql: Sql, terms: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(errors.InvalidParameterValue, match=message):
            submit(sql, **{"kind": KIND, "payload": BATCH, **terms})

    def test_refuses_what_is_too_large_or_too_deep(self, sql: Sql) -> None:
        deep: dict[str, Any] = {}
        for _ in range(65):
            deep = {"deeper": deep}
        with pytest.raises(errors.InvalidParameterValue, match="deeper than 64"):
            submit(sql, KIND, deep)
        with pytest.raises(errors.InvalidParameterValue, match="at most 262144"):
            submit(sql, KIND, {"text": "x" * MOST_PAYLOAD_BYTES})
        fits = json.dumps({"text": ""}, separators=(",", ":"))
        submit(sql, KIND, {"text": "x" * (MOST_PAYLOAD_BYTES - len(fits))})

    @pytest.mark.parametrize("garbage", ["", "abc", f"{PLACE}-more", PLACE.replace("4", "F")])
    def test_leaves_out_a_place_in_a_trace_that_is_none(self, sql: Sql, garbage: str) -> None:
        submit(sql, KIND, BATCH, job_id="a", traceparent=garbage)
        assert row_of(sql, "a")["traceparent"] is None

    def test_leaves_a_payload_that_does_not_fit_to_be_refused(
        self, sql: Sql, engine: Engine
    ) -> None:
        submit(sql, KIND, {"sku": 5}, job_id="a")
        build_executor(engine, KINDS).run_dispatched(KIND, ["a"], redelivered=False)
        job = find(engine, "a")
        assert job.state is JobState.REJECTED
        assert job.error is not None
        assert job.error.type == "InvalidPayload"


class TestAFullQueue:
    @pytest.fixture(autouse=True)
    def limited(self, engine: Engine) -> None:
        PostgresQueueSettings(engine).set_limit("allocation", 2)

    @pytest.mark.parametrize("measured", [["allocation"], []])
    def test_takes_no_more_by_either_door_and_answers_what_it_knows(
        self, sql: Sql, engine: Engine, producer: Producer, measured: list[str]
    ) -> None:
        for job_id in ("a", "b"):
            submit(sql, KIND, BATCH, job_id=job_id)
        PostgresQueueGauges(engine).measure(measured, messages={}, every=60)

        with pytest.raises(errors.ConfigurationLimitExceeded, match="queue 'allocation' is full"):
            submit(sql, KIND, BATCH, job_id="c")
        with pytest.raises(QueueFull):
            producer.submit(KIND, BATCH, job_id="c")

        assert submit(sql, KIND, BATCH, job_id="a") == ("a", "queued", False)
        user = {"username": "ada", "name": "Ada", "email": "ada@example.org"}
        assert submit(sql, "users.register", user)[2] is True


class TestARoleThatMayOnlySubmit:
    def test_submits_and_reads_nothing(self, sql: Sql) -> None:
        sql.execute("DROP ROLE IF EXISTS shop_of_a_test")
        sql.execute("CREATE ROLE shop_of_a_test")
        sql.execute("GRANT shop_of_a_test TO CURRENT_USER WITH SET TRUE, INHERIT TRUE")
        try:
            sql.execute("SET ROLE shop_of_a_test")
            with pytest.raises(errors.InsufficientPrivilege):
                submit(sql, KIND, BATCH, job_id="a")
            sql.execute("RESET ROLE")
            sql.execute("GRANT EXECUTE ON FUNCTION tallyman_submit TO shop_of_a_test")
            sql.execute("SET ROLE shop_of_a_test")
            # Tables of its own with our names are not what the function writes to.
            sql.execute("CREATE TEMPORARY TABLE job_kind (name text, queue text, max_attempts int)")
            assert submit(sql, KIND, BATCH, job_id="a")[2] is True
            with pytest.raises(errors.InsufficientPrivilege):
                sql.execute("SELECT payload FROM job")
            with pytest.raises(errors.InsufficientPrivilege):
                sql.execute("DELETE FROM job")
        finally:
            sql.execute("RESET ROLE")
            sql.execute("DROP OWNED BY shop_of_a_test")
            sql.execute("DROP ROLE shop_of_a_test")


class TestTheKindsInTheDatabase:
    def test_are_those_of_the_code(self, sql: Sql) -> None:
        rows = sql.execute("SELECT name, queue, max_attempts FROM job_kind").fetchall()
        assert set(rows) == {(kind.name, kind.queue, kind.max_attempts) for kind in KINDS.values()}

    @pytest.mark.parametrize("kind", KINDS)
    def test_have_no_number_that_is_not_an_integer(self, kind: str) -> None:
        # `tallyman_submit` would refuse it: teach it how Python writes such numbers first.
        assert '"type": "number"' not in json.dumps(Payloads(KINDS).schema(kind))
