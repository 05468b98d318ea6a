"""The ledger's own rules, which hold whatever code talks to it."""

from collections.abc import Iterator

import psycopg.errors
import pytest
import sqlalchemy.exc
from sqlalchemy import Engine

from domain.errors import InvalidPayload
from domain.jobs.errors import IdempotencyConflict, UnknownKind
from domain.jobs.model import JobState, Submission
from tests.jobs import Script, accept, build_executor, find, probe_kinds, submission
from worker.producer import Producer

BATCH = {"reference": "B1", "sku": "LAMP", "quantity": 5}


@pytest.fixture
def producer(database_url: str) -> Iterator[Producer]:
    with Producer.at(database_url) as producer:
        yield producer


def finish(engine: Engine, *job_ids: str, does: str = "succeed") -> None:
    accept(engine, *(submission(job_id, does) for job_id in job_ids))
    build_executor(engine, probe_kinds(Script())).run_dispatched(
        "test.probe", job_ids, redelivered=False
    )


def change(engine: Engine, job_id: str, assignment: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE job SET {assignment} WHERE id = %(id)s", {"id": job_id})


class TestATerminalJob:
    @pytest.mark.parametrize(
        "assignment",
        [
            "state = 'queued', finished_at = NULL, next_dispatch = now(), result = NULL",
            "state = 'dead', result = NULL, error = '{}'",
            'result = \'{"job": "other"}\'',
            "attempts = attempts + 1",
        ],
    )
    def test_never_changes_its_outcome(self, engine: Engine, assignment: str) -> None:
        finish(engine, "a")
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="nor may its outcome change"):
            change(engine, "a", assignment)

    def test_may_be_scrubbed(self, engine: Engine) -> None:
        finish(engine, "a")
        change(engine, "a", "payload = '{}', result = '{}', scrubbed_at = now()")
        assert find(engine, "a").result == {}

    def test_may_be_tried_again_by_an_operator_if_it_is_dead(self, engine: Engine) -> None:
        accept(engine, submission("a"))
        change(
            engine,
            "a",
            'state = \'dead\', error = \'{"type": "E", "module": "m", "message": "x"}\','
            " finished_at = now(), next_dispatch = NULL",
        )
        change(
            engine,
            "a",
            "state = 'queued', error = NULL, finished_at = NULL, next_dispatch = now()",
        )
        assert find(engine, "a").state is JobState.QUEUED


class TestAWrongState:
    @pytest.mark.parametrize(
        "assignment",
        [
            "state = 'running'",
            "state = 'succeeded'",
            "state = 'rejected', finished_at = now(), next_dispatch = NULL",
            "attempts = max_attempts + 1",
            "next_dispatch = NULL",
            "priority = 10",
        ],
    )
    def test_cannot_be_stored(self, engine: Engine, assignment: str) -> None:
        accept(engine, submission("a"))
        with pytest.raises(sqlalchemy.exc.IntegrityError) as refused:
            change(engine, "a", assignment)
        assert isinstance(refused.value.orig, psycopg.errors.CheckViolation)


class TestStockMovements:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE stock_movement SET before = 1",
            "DELETE FROM stock_movement",
            "TRUNCATE stock_movement",
        ],
    )
    def test_are_never_rewritten(self, engine: Engine, statement: str) -> None:
        with (
            engine.begin() as connection,
            pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"),
        ):
            connection.exec_driver_sql(statement)


AN_ORDER = """
INSERT INTO product (sku) VALUES ('LAMP');
INSERT INTO batch (reference, sku, purchased, allocated, fingerprint)
VALUES ('b', 'LAMP', 9, 2, '');
INSERT INTO sales_order (order_id, policy, may_split, strategy, priority, fingerprint, job_id)
VALUES ('o', 'partial', true, 'earliest_first', 0, '', 'j');
INSERT INTO order_line (order_id, line_id, position, sku, quantity, state)
VALUES ('o', '1', 0, 'LAMP', 2, 'allocated');
INSERT INTO allocation (order_id, line_id, batch_reference, quantity, strategy, ranking, job_id)
VALUES ('o', '1', 'b', 2, 'earliest_first', '[]', 'j')"""


class TestWhatAllocationsRestOn:
    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM product",
            "DELETE FROM batch",
            "UPDATE batch SET reference = 'other'",
            "DELETE FROM sales_order",
            "UPDATE sales_order SET order_id = 'other'",
            "DELETE FROM order_line",
            "UPDATE order_line SET line_id = 'other'",
            "UPDATE order_line SET order_id = 'other'",
        ],
    )
    def test_stays(self, engine: Engine, statement: str) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(AN_ORDER)

        with engine.begin() as connection, pytest.raises(sqlalchemy.exc.IntegrityError) as refused:
            connection.exec_driver_sql(statement)

        assert isinstance(refused.value.orig, psycopg.errors.ForeignKeyViolation)


class TestSubmit:
    def test_accepts_with_one_commit(self, producer: Producer, engine: Engine) -> None:
        receipt = producer.submit("allocation.create_batch", BATCH, priority=7)
        assert receipt.is_new
        stored = find(engine, receipt.job_id)
        assert (stored.state, stored.queue, stored.priority, stored.payload) == (
            JobState.QUEUED,
            "allocation",
            7,
            BATCH,
        )

    def test_answers_the_same_id_with_what_it_knows(
        self, producer: Producer, engine: Engine
    ) -> None:
        producer.submit("allocation.create_batch", BATCH, job_id="a")
        again = producer.submit(
            "allocation.create_batch", dict(reversed(BATCH.items())), job_id="a"
        )
        assert (again.is_new, again.state) == (False, JobState.QUEUED)

    def test_refuses_the_same_id_with_another_payload(self, producer: Producer) -> None:
        producer.submit("allocation.create_batch", BATCH, job_id="a")
        with pytest.raises(IdempotencyConflict):
            producer.submit("allocation.create_batch", {**BATCH, "quantity": 6}, job_id="a")

    @pytest.mark.parametrize(
        ("payload", "problem"),
        [
            ({**BATCH, "colour": "red"}, "colour: Unexpected keyword argument"),
            ({**BATCH, "quantity": "5"}, "quantity: Input should be a valid integer"),
            ({**BATCH, "quantity": True}, "quantity: Input should be a valid integer"),
            ({"reference": "B1", "sku": "LAMP"}, "quantity: "),
            ({**BATCH, "eta": "tomorrow"}, "eta: Input should be a valid date"),
            ({**BATCH, "sku": "LA\x00MP"}, "U[+]0000"),
            ({**BATCH, "sku": "\ud800"}, "not JSON in UTF-8"),
            ({**BATCH, "sku": "x" * 300_000}, "at most 262144 are taken"),
            ({**BATCH, "quantity": float("nan")}, "not JSON"),
        ],
    )
    def test_names_what_is_wrong_with_a_payload(
        self, producer: Producer, payload: dict[str, object], problem: str
    ) -> None:
        with pytest.raises(InvalidPayload, match=problem):
            producer.submit("allocation.create_batch", payload)

    def test_names_the_kinds_there_are(self, producer: Producer) -> None:
        with pytest.raises(UnknownKind, match=r"allocation\.allocate_order"):
            producer.submit("allocation.create", BATCH)


class TestSubmitMany:
    def test_answers_in_order_and_takes_each_id_once(self, producer: Producer) -> None:
        receipts = producer.submit_many(
            Submission(job_id=i, kind="allocation.create_batch", payload=BATCH)
            for i in ("a", "b", "a")
        )
        assert [(receipt.job_id, receipt.is_new) for receipt in receipts] == [
            ("a", True),
            ("b", True),
            ("a", False),
        ]

    def test_accepts_nothing_of_a_chunk_with_a_conflict(self, producer: Producer) -> None:
        with pytest.raises(IdempotencyConflict, match="job id a "):
            producer.submit_many(
                Submission(job_id=i, kind="allocation.create_batch", payload=payload)
                for i, payload in (("b", BATCH), ("a", BATCH), ("a", {}))
            )
        assert producer.find("b") is None
