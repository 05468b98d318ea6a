"""What a task tells Celery of an attempt that failed."""

import pytest
from celery import Celery
from celery.exceptions import Retry

from domain.jobs.executor import Executor, Report
from domain.jobs.holding import Holder
from domain.jobs.model import Door, Job, JobState
from domain.kinds import KINDS
from tasks.jobs import AttemptFailed, Gate, JobTask, Mirror, Runtime, register
from worker.tracing.untraced import Untraced

QUOTES_A_ROW = ValueError("Failing row contains (ada@example.org)")


def no_runtime() -> Runtime:
    raise AssertionError("nothing is run here")


def task_of(kind: str) -> JobTask:
    app = Celery(set_as_current=False)
    register(app, KINDS.values(), no_runtime)
    task = app.tasks[kind]
    assert isinstance(task, JobTask)
    return task


def failed(kind: str, state: JobState) -> Report:
    job = Job(
        id="a",
        kind=kind,
        door=Door.CELERY,
        payload={},
        payload_hash=b"",
        state=state,
        attempts=1,
        max_attempts=5,
        dispatches=0,
    )
    return Report(job=job, exception=QUOTES_A_ROW)


class TestAFailedAttempt:
    def test_of_a_personal_job_is_told_by_the_name_of_its_error_alone(self) -> None:
        task = task_of("users.register")
        with pytest.raises(Retry) as retry:
            task._answer(failed("users.register", JobState.RETRY))
        with pytest.raises(AttemptFailed) as dead:
            task._answer(failed("users.register", JobState.DEAD))
        assert "ada" not in str(retry.value) + repr(retry.value.exc) + str(dead.value)
        assert str(dead.value) == "ValueError"

    def test_for_want_of_memory_does_not_end_the_whole_worker(self) -> None:
        # A MemoryError that reaches Celery's parent process makes it stop.
        class Hungry:
            traces = Untraced()

            @property
            def executor(self) -> Executor:
                raise AssertionError("nothing is run")

            @property
            def gate(self) -> Gate:
                raise MemoryError

            @property
            def holder(self) -> Holder:
                raise AssertionError("nothing is held")

            @property
            def mirror(self) -> Mirror:
                raise AssertionError("nothing is told")

        app = Celery(set_as_current=False)
        register(app, KINDS.values(), Hungry)
        with pytest.raises(AttemptFailed, match="MemoryError"):
            app.tasks["allocation.create_batch"](["a"])

    def test_of_another_is_told_as_it_was(self) -> None:
        task = task_of("allocation.create_batch")
        with pytest.raises(ValueError, match="Failing row"):
            task._answer(failed("allocation.create_batch", JobState.DEAD))
