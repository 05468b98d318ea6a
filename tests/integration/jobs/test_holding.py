"""Jobs that reach a worker while their queue may not run them."""

from collections.abc import Mapping

import pytest
from sqlalchemy import Engine

from adapters.payloads import Payloads
from adapters.postgres.dispatches import PostgresDispatches
from adapters.postgres.persistence import Persistently
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.errors import IdempotencyConflict
from domain.jobs.holding import Holder
from domain.jobs.kinds import JobKind
from domain.jobs.model import NOT_STORABLE, Door, JobState, Submission
from tests.jobs import Probe, Script, accept, build_executor, find, probe_kinds, submission


@pytest.fixture
def kinds() -> Mapping[str, JobKind]:
    return probe_kinds(Script())


@pytest.fixture
def holder(engine: Engine, kinds: Mapping[str, JobKind]) -> Holder:
    return Holder(
        kinds=kinds,
        begin_work=BeginPostgresWork(engine=engine),
        decode=Payloads(kinds).decode,
        persistently=Persistently(),
    )


@pytest.fixture
def dispatches(engine: Engine) -> PostgresDispatches:
    return PostgresDispatches(engine)


def due(dispatches: PostgresDispatches) -> list[tuple[str, int]]:
    """Claim what is due; return (id, times dispatched)."""
    claimed = dispatches.claim_due("allocation", limit=100, is_idle=False)
    return [(job.job_id, job.dispatches) for job in claimed.jobs]


class TestHoldingDispatchedJobs:
    def test_leaves_them_to_the_relay_as_if_never_dispatched(
        self, engine: Engine, holder: Holder, dispatches: PostgresDispatches
    ) -> None:
        accept(engine, submission("a"), submission("b"))
        assert due(dispatches) == [("a", 1), ("b", 1)]
        reports = holder.hold_dispatched(Probe.kind, ["a", "b"], redelivered=False)
        assert [report.job.id for report in reports] == ["a", "b"]
        assert (find(engine, "a").attempts, find(engine, "a").state) == (0, JobState.QUEUED)
        assert due(dispatches) == [("a", 1), ("b", 1)]

    def test_keeps_their_place_before_jobs_that_came_later(
        self, engine: Engine, holder: Holder
    ) -> None:
        accept(engine, submission("z-first"))
        dispatches = PostgresDispatches(engine)
        due(dispatches)
        accept(engine, submission("a-later"))
        holder.hold_dispatched(Probe.kind, ["z-first"], redelivered=False)
        [first] = dispatches.claim_due("allocation", limit=1, is_idle=False).jobs
        assert first.job_id == "z-first"

    def test_leaves_those_under_suspicion_that_may_have_killed_a_worker(
        self, engine: Engine, holder: Holder, dispatches: PostgresDispatches
    ) -> None:
        accept(engine, submission("a"))
        due(dispatches)
        holder.hold_dispatched(Probe.kind, ["a"], redelivered=True)
        assert due(dispatches) == [("a", 2)]

    def test_answers_what_has_finished_and_leaves_it(
        self,
        engine: Engine,
        holder: Holder,
        kinds: Mapping[str, JobKind],
        dispatches: PostgresDispatches,
    ) -> None:
        accept(engine, submission("a"))
        build_executor(engine, kinds).run_dispatched(Probe.kind, ["a"], redelivered=False)
        [report] = holder.hold_dispatched(Probe.kind, ["a"], redelivered=False)
        assert report.job.state is JobState.SUCCEEDED
        assert due(dispatches) == []

    def test_leaves_what_somebody_runs_now(
        self, engine: Engine, holder: Holder, dispatches: PostgresDispatches
    ) -> None:
        accept(engine, submission("a"))
        due(dispatches)
        with engine.connect() as worker:
            worker.exec_driver_sql("SELECT FROM job FOR NO KEY UPDATE")
            assert holder.hold_dispatched(Probe.kind, ["a"], redelivered=False) == []
        assert find(engine, "a").dispatches == 1

    def test_does_not_hurry_what_waits_for_its_next_attempt(
        self, engine: Engine, holder: Holder, dispatches: PostgresDispatches
    ) -> None:
        accept(engine, submission("a"))
        due(dispatches)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE job SET state = 'retry', run_after = now() + interval '1 hour',"
                " next_dispatch = now() + interval '1 hour'"
            )
        holder.hold_dispatched(Probe.kind, ["a"], redelivered=False)
        assert due(dispatches) == []

    def test_moves_them_to_the_queue_that_their_kind_is_in_now(
        self, engine: Engine, holder: Holder, dispatches: PostgresDispatches
    ) -> None:
        # Else a worker and a relay would hand them to each other as fast as they can.
        accept(engine, submission("a"))
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE job SET queue = 'former'")
        dispatches.claim_due("former", limit=1, is_idle=False)
        holder.hold_dispatched(Probe.kind, ["a"], redelivered=False)
        assert due(dispatches) == [("a", 1)]

    def test_knows_no_other_job(self, holder: Holder) -> None:
        assert holder.hold_dispatched(Probe.kind, ["none"], redelivered=False) == []


class TestHoldingASubmittedJob:
    def test_puts_it_on_record_and_leaves_it_to_the_relay(
        self, engine: Engine, holder: Holder, dispatches: PostgresDispatches
    ) -> None:
        held = holder.hold_submitted(submission("a"), redelivered=False)
        assert held is not None
        assert held.job.state is JobState.QUEUED
        job = find(engine, "a")
        assert (job.door, job.attempts, job.correlation_id) == (Door.CELERY, 0, "test")
        assert due(dispatches) == [("a", 1)]

    def test_leaves_it_under_suspicion_where_it_came_before(
        self, holder: Holder, dispatches: PostgresDispatches
    ) -> None:
        holder.hold_submitted(submission("a"), redelivered=True)
        assert due(dispatches) == [("a", 2)]

    def test_does_not_dispatch_it_twice_that_is_on_record(
        self, engine: Engine, holder: Holder, dispatches: PostgresDispatches
    ) -> None:
        for _ in range(3):
            holder.hold_submitted(submission("a"), redelivered=False)
        assert due(dispatches) == [("a", 1)]
        assert due(dispatches) == []

    def test_answers_what_has_finished(
        self, engine: Engine, holder: Holder, kinds: Mapping[str, JobKind]
    ) -> None:
        build_executor(engine, kinds).run_submitted(submission("a"), redelivered=False)
        held = holder.hold_submitted(submission("a"), redelivered=False)
        assert held is not None
        assert held.job.result == {"job": "a"}

    def test_tells_the_same_id_with_another_payload(self, holder: Holder) -> None:
        holder.hold_submitted(submission("a"), redelivered=False)
        with pytest.raises(IdempotencyConflict):
            holder.hold_submitted(submission("a", "refuse"), redelivered=False)

    @pytest.mark.parametrize("payload", [{"no_such": 1}, {NOT_STORABLE: "why"}])
    def test_does_not_take_what_will_be_refused(
        self, engine: Engine, holder: Holder, payload: dict[str, object]
    ) -> None:
        bad = Submission(job_id="a", kind=Probe.kind, payload=payload)
        assert holder.hold_submitted(bad, redelivered=False) is None
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT FROM job").all() == []
