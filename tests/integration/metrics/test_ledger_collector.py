"""What `tallyman metrics` tells of a ledger, and how it is asked."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import count

import pytest
from prometheus_client.metrics_core import Metric
from sqlalchemy import Engine

from adapters.postgres import ledger_figures
from adapters.postgres.queue_gauges import PostgresQueueGauges
from domain.jobs.queues import QUEUES
from domain.kinds import KINDS
from tests.integration.metrics.conftest import do
from tests.jobs import Script, accept, build_executor, probe_kinds, submission
from tests.scraping import CATALOGUE
from worker.metrics.catalogue import Type
from worker.metrics.ledger import LedgerCollector
from worker.metrics.looks import Looks


@pytest.fixture
def collector(database_url: str, patient: None) -> Iterator[LedgerCollector]:
    with closing(
        LedgerCollector.at(database_url, most_waiting=1_000_000, has_stream=True)
    ) as collector:
        yield collector


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a scrape wait for what it is told, however slow this machine is."""
    monkeypatch.setattr("worker.metrics.ledger.ANSWER_SECONDS", 60.0)


def told(collector: LedgerCollector) -> dict[str, Metric]:
    # Each look is to be a new one.
    collector.glances._next = collector.censuses._next = float("-inf")
    families = list(collector.collect())
    found = {family.name: family for family in families}
    assert len(found) == len(families)
    return found


def value(found: Mapping[str, Metric], name: str, **labels: str) -> float:
    [value] = [
        sample.value
        for family in found.values()
        for sample in family.samples
        if sample.name == f"tallyman_{name}" and sample.labels == labels
    ]
    return float(value)


class TestTheCollector:
    def test_tells_what_the_catalogue_describes(
        self, collector: LedgerCollector, engine: Engine
    ) -> None:
        accept(engine, submission("a"))
        build_executor(engine, probe_kinds(Script())).run_dispatched(
            "test.probe", ["a"], redelivered=False
        )
        found = told(collector)
        for family in found.values():
            name = family.name + ("_total" if family.type == Type.COUNTER else "")
            described = CATALOGUE[name]
            assert family.type == described.type
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(described.labels)
        of_processes = {"ready", "live", "build_info", "round_age_seconds"}
        missing = {
            name.removesuffix("_total")
            for name, metric in CATALOGUE.items()
            if name.removesuffix("_total") not in found
        }
        assert all(
            name.removeprefix("tallyman_").startswith(("worker_", "breaker_"))
            or name.removeprefix("tallyman_") in of_processes
            for name in missing
        )

    def test_begins_with_zeros(self, collector: LedgerCollector) -> None:
        found = told(collector)
        for kind in KINDS:
            assert value(found, "jobs_finished_total", kind=kind, state="dead") == 0
            assert value(found, "job_seconds_count", kind=kind) == 0
            assert value(found, "jobs_dead", kind=kind) == 0
        for queue in QUEUES:
            assert value(found, "queue_jobs", queue=queue, place="queued") == 0

    def test_tells_where_jobs_are_and_how_old(
        self, collector: LedgerCollector, engine: Engine
    ) -> None:
        accept(engine, *(submission(name) for name in ("due", "out", "later", "kept", "retry")))
        for name, change in {
            "due": "created_at = now() - interval '100 s', next_dispatch = created_at",
            "out": "dispatches = 1, next_dispatch = now() + interval '1 min',"
            " created_at = now() - interval '200 s'",
            "later": "run_after = now() + interval '1 h', next_dispatch = now() + interval '1 h',"
            " created_at = now() - interval '300 s'",
            "kept": "next_dispatch = 'infinity', created_at = now() - interval '400 s'",
            "retry": "state = 'retry', run_after = now() + interval '1 h',"
            " next_dispatch = now() + interval '1 h'",
        }.items():
            do(engine, f"UPDATE job SET {change} WHERE id = '{name}'")
        do(engine, "UPDATE job SET next_dispatch = created_at WHERE id = 'due'")
        found = told(collector)
        where = {"queue": "allocation"}
        assert value(found, "queue_jobs", place="queued", **where) == 1
        assert value(found, "queue_jobs", place="dispatched", **where) == 1
        assert value(found, "queue_jobs", place="later", **where) == 3
        assert 100 <= value(found, "queue_oldest_job_seconds", place="queued", **where) < 200
        assert 200 <= value(found, "queue_oldest_job_seconds", place="dispatched", **where) < 300
        assert 100 <= value(found, "relay_lag_seconds") < 200
        assert value(found, "jobs_open", kind="test.probe", state="queued") == 4
        assert value(found, "jobs_open", kind="test.probe", state="retry") == 1
        do(engine, "INSERT INTO queue (name, paused_at) VALUES ('allocation', now())")
        # A relay is not late with what it may not hand out.
        paused = told(collector)
        assert value(paused, "relay_lag_seconds") == 0
        assert value(paused, "queue_paused_seconds", **where) >= 1

    def test_tells_whether_a_relay_and_a_broker_are_there(
        self, collector: LedgerCollector, engine: Engine
    ) -> None:
        gauges = PostgresQueueGauges(engine)
        assert value(told(collector), "up", part="relay") == 0
        gauges.measure(QUEUES, messages=dict.fromkeys(QUEUES, 3), every=0)
        found = told(collector)
        assert value(found, "up", part="relay") == value(found, "up", part="broker") == 1
        assert value(found, "queue_messages", queue="users") == 3
        gauges.measure(QUEUES, messages={}, every=0)
        found = told(collector)
        assert (value(found, "up", part="relay"), value(found, "up", part="broker")) == (1, 0)
        assert not found["tallyman_queue_messages"].samples

    def test_tells_of_events_that_nobody_relays_only_where_somebody_should(
        self, database_url: str, patient: None
    ) -> None:
        with closing(LedgerCollector.at(database_url, most_waiting=1, has_stream=False)) as alone:
            assert "tallyman_outbox_lag_seconds" not in told(alone)

    def test_knows_the_times_of_other_versions(
        self, collector: LedgerCollector, engine: Engine
    ) -> None:
        do(
            engine,
            "INSERT INTO job_tally (kind, state, waited_below, took_below, jobs, waited, took)"
            " VALUES ('users.erase', 'succeeded', 0.7, 7200, 2, 1.0, 9000)",
        )
        found = told(collector)
        kind = "users.erase"
        assert value(found, "job_seconds_bucket", kind=kind, le="0.5") == 0
        assert value(found, "job_seconds_bucket", kind=kind, le="1.0") == 2
        assert value(found, "job_attempt_seconds_bucket", kind=kind, le="1800.0") == 0
        assert value(found, "job_attempt_seconds_count", kind=kind) == 2
        assert value(found, "job_attempt_seconds_sum", kind=kind) == 9000

    @pytest.mark.parametrize("statement", ["_OPEN", "_DEAD", "_OUTBOX"])
    def test_looks_at_no_finished_job(self, engine: Engine, statement: str) -> None:
        do(
            engine,
            "INSERT INTO job (id, kind, queue, door, payload, payload_hash, state, max_attempts,"
            " result, finished_at) SELECT 'j' || n, 'users.erase', 'users', 'ledger', '{}', '',"
            " 'succeeded', 5, '{}', now() FROM generate_series(1, 5000) AS n",
        )
        accept(engine, submission("open"))
        with engine.connect() as connection:
            connection.exec_driver_sql("SET enable_seqscan = off")
            plan = "\n".join(
                connection.exec_driver_sql(
                    f"EXPLAIN {getattr(ledger_figures, statement)}"
                ).scalars()
            )
        assert "Seq Scan" not in plan
        assert "ix_job_due" in plan or "ix_job_dead" in plan or "ix_outbox_unpublished" in plan


class TestPostgreSQLAway:
    def test_is_told_within_a_second_and_found_again(self) -> None:
        nowhere = LedgerCollector.at(
            "postgresql+psycopg://nobody@127.0.0.1:1/nothing", most_waiting=1, has_stream=True
        )
        found = told(nowhere)
        assert value(found, "up", part="db") == 0
        assert set(found) == {"tallyman_up", "tallyman_figures_age_seconds"}
        assert nowhere.objection() is not None


class TestLooks:
    def test_are_not_waited_for_longer_than_one_is_patient(self) -> None:
        may_end = threading.Event()

        def look() -> str:
            may_end.wait()
            return "seen"

        looks = Looks(name="slow", look=look, every=0)
        assert looks.latest(patience=0.01) is None
        may_end.set()
        found = looks.latest(patience=20)
        assert found is not None
        assert (found.value, found.is_current) == ("seen", True)

    def test_tell_what_was_seen_last_when_one_fails(self) -> None:
        answers = iter(["seen"])
        looks = Looks(name="failing", look=lambda: next(answers), every=0)
        assert looks.latest(patience=20)
        looks._next = float("-inf")
        found = looks.latest(patience=20)
        assert found is not None
        assert (found.value, found.is_current) == ("seen", False)

    def test_are_made_no_more_often_than_asked_for(self) -> None:
        numbers = count(1)
        looks = Looks(name="seldom", look=lambda: next(numbers), every=3_600)
        for _ in range(5):
            assert looks.latest(patience=20)
        assert next(numbers) == 2
