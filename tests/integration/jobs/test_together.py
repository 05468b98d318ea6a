"""Messages that a worker's process has in hand together: one transaction, and each its own end."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery
from celery.app import trace
from celery.exceptions import Reject, Retry
from sqlalchemy import Engine

from adapters.payloads import Payloads
from adapters.postgres.persistence import Persistently
from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import BeginPostgresWork, PostgresUnitOfWork
from domain.errors import InvalidPayload
from domain.jobs.errors import IdempotencyConflict
from domain.jobs.executor import Executor
from domain.jobs.holding import Holder
from domain.jobs.kinds import JobKind
from domain.jobs.model import Job, JobState
from tasks.jobs import register
from tasks.together import run_together
from tests.jobs import Probe, Refused, Script, build_executor, find, probe_kinds, submission
from worker.tracing.untraced import Untraced

DEADLOCK = "DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = 'deadlock_detected'; END $$"
TIMEOUT = "DO $$ BEGIN RAISE EXCEPTION 'too slow' USING ERRCODE = 'query_canceled'; END $$"


class Broken(Exception):
    """A bug."""


class Open:
    """A gate that lets all through."""

    def objection(self, _: str, *, pace: float | None) -> None:
        """Object to nothing."""


@dataclass(kw_only=True)
class Noted:
    """A mirror that notes what it is told."""

    told: list[tuple[str, JobState]] = field(default_factory=list)

    def copy(self, *jobs: Job) -> None:
        self.told += [(job.id, job.state) for job in jobs]


@dataclass(kw_only=True)
class Process:
    """What a worker's process has built."""

    executor: Executor
    holder: Holder
    gate: Open = field(default_factory=Open)
    mirror: Noted = field(default_factory=Noted)
    traces: Untraced = field(default_factory=Untraced)


Message = tuple[str, Mapping[str, Any]]
Run = Callable[..., list[Any]]


@pytest.fixture
def script() -> Script:
    def breaks(_: PostgresUnitOfWork) -> None:
        raise Broken("what is not there")

    return Script(acts={"break": breaks})


@pytest.fixture
def kinds(script: Script) -> Mapping[str, JobKind]:
    return probe_kinds(script)


@pytest.fixture
def process(engine: Engine, kinds: Mapping[str, JobKind]) -> Process:
    return Process(
        executor=build_executor(engine, kinds),
        holder=Holder(
            kinds=kinds,
            begin_work=BeginPostgresWork(engine=engine),
            decode=Payloads(kinds).decode,
            persistently=Persistently(),
        ),
    )


@pytest.fixture
def app(process: Process, kinds: Mapping[str, JobKind]) -> Iterator[Celery]:
    """Make Celery trace as in a worker's process."""
    before = trace._localized[:]
    with Celery("together", set_as_current=True) as app:
        register(app, kinds.values(), lambda: process)
        app.finalize()
        trace._localized[:] = [app.tasks, {"application/json"}, "test"]
        for name, task in app.tasks.items():
            task.__trace__ = trace.build_tracer(name, task, app.loader, "test", app=app)
        yield app
    trace._localized[:] = before


@pytest.fixture
def run(app: Celery) -> Run:
    """Run messages together; give what each came to, a result or an exception."""

    def run_messages(*messages: Message, ignore_result: bool = False) -> list[Any]:
        traced = run_together(
            Probe.kind,
            [
                (
                    job_id,
                    {"id": job_id, "task": Probe.kind, "ignore_result": ignore_result},
                    json.dumps([[], payload, {}]).encode(),
                    "application/json",
                    "utf-8",
                )
                for job_id, payload in messages
            ],
        )
        return [_raised(outcome) if has_failed else outcome for has_failed, outcome, _ in traced]

    return run_messages


def _raised(info: ExceptionInfo) -> object:
    error: object = info.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def message(job_id: str, does: str = "succeed") -> Message:
    return job_id, {"does": does}


def messages(count: int) -> list[Message]:
    return [message(f"good-{number}") for number in range(count)]


class TestMessagesInHandTogether:
    def test_share_a_transaction(self, run: Run, script: Script, process: Process) -> None:
        assert len(run(*messages(3))) == 3
        assert script.batches == [["good-0", "good-1", "good-2"]]
        assert process.mirror.told == [(f"good-{n}", JobState.SUCCEEDED) for n in range(3)]

    def test_are_copied_to_nobody_where_nobody_asks(self, run: Run, process: Process) -> None:
        run(*messages(3), ignore_result=True)
        assert process.mirror.told == []

    def test_end_each_in_its_own_way(self, run: Run, engine: Engine) -> None:
        outcomes = run(
            message("a"), message("refused", "refuse"), message("broken", "break"), message("b")
        )

        assert [type(outcome) for outcome in outcomes] == [str, Refused, Retry, str]
        states = {job_id: find(engine, job_id) for job_id in ("a", "refused", "broken", "b")}
        assert [(job.state, job.attempts) for job in states.values()] == [
            (JobState.SUCCEEDED, 1),
            (JobState.REJECTED, 1),
            (JobState.RETRY, 1),
            (JobState.SUCCEEDED, 1),
        ]
        assert not JobQueries(engine).failures("a")
        assert len(JobQueries(engine).failures("broken")) == 1

    def test_do_what_was_done_before_no_second_time(
        self, run: Run, script: Script, process: Process
    ) -> None:
        process.executor.run_submitted(submission("a").coming_from(None), redelivered=False)
        first, other = run(message("a"), message("b"))
        assert "'job': 'a'" in first
        assert "'job': 'b'" in other
        assert script.batches == [["a"], ["b"]]


class TestTheSameIdTwice:
    def test_is_done_once_and_answered_twice(self, run: Run, script: Script) -> None:
        first, _, second = run(message("a"), message("b"), message("a"))
        assert first == second
        assert script.batches == [["a", "b"]]

    def test_with_another_payload_is_a_conflict(self, run: Run, engine: Engine) -> None:
        first, _, second = run(message("a"), message("b"), message("a", "refuse"))
        assert "'job': 'a'" in first
        assert isinstance(second, IdempotencyConflict)
        assert find(engine, "a").state is JobState.SUCCEEDED

    def test_that_cannot_be_stored_first_is_not_answered_with_what_came_second(
        self, run: Run, engine: Engine
    ) -> None:
        first, _, second = run(("a", {"does": "\0"}), message("b"), message("a"))
        assert isinstance(first, InvalidPayload)
        assert isinstance(second, IdempotencyConflict)
        assert find(engine, "a").state is JobState.REJECTED


class TestTrouble:
    @pytest.mark.parametrize("trouble", [DEADLOCK, TIMEOUT], ids=["deadlock", "timeout"])
    def test_that_all_share_is_on_nobodys_record(
        self, run: Run, script: Script, engine: Engine, trouble: str
    ) -> None:
        def fails_among_others(work: PostgresUnitOfWork) -> None:
            if len(script.batches[-1]) > 1:
                work._statements.ask(trouble)

        script.acts["crowded"] = fails_among_others
        outcomes = run(message("a"), message("b", "crowded"), message("c"))

        assert [type(outcome) for outcome in outcomes] == [str] * 3
        for job_id in "abc":
            assert find(engine, job_id).attempts == 1
            assert not JobQueries(engine).failures(job_id)

    def test_with_the_time_limit_gives_all_back(
        self, run: Run, script: Script, engine: Engine
    ) -> None:
        def takes_too_long(_: PostgresUnitOfWork) -> None:
            raise SoftTimeLimitExceeded(60)

        script.acts["sleep"] = takes_too_long
        outcomes = run(message("a"), message("b", "sleep"), message("c"))

        assert [(type(outcome), outcome.requeue) for outcome in outcomes] == [(Reject, True)] * 3
        assert JobQueries(engine).newest(limit=10) == []

    def test_that_took_most_of_the_time_leaves_none_with_the_rest(
        self, run: Run, app: Celery, script: Script, engine: Engine
    ) -> None:
        app.tasks[Probe.kind].soft_time_limit = 1e-6
        outcomes = run(message("broken", "break"), message("b"))
        assert [(type(outcome), outcome.requeue) for outcome in outcomes] == [(Reject, True)] * 2
        # Done is done: nothing is given back for the time that it took.
        assert [type(outcome) for outcome in run(message("a"), message("b"))] == [str] * 2
        assert script.batches == [["b", "broken"], ["a", "b"]]
