"""Both doors, and what becomes of what comes in by them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import TaskRevokedError
from pytest_celery import CeleryTestSetup
from uuid6 import uuid7

from domain.allocation.errors import OutOfStock
from domain.errors import InvalidPayload
from domain.jobs.errors import IdempotencyConflict
from domain.jobs.model import MOST_PAYLOAD_BYTES, Door, JobState
from tests.e2e.how_to import snippets
from tests.e2e.pipeline import KIND, Pipeline, order
from tests.e2e.processes import eventually

WAIT: dict[str, float] = {"timeout": 60, "interval": 0.02}

Mirrored = Callable[[str], dict[str, Any] | None]


@pytest.fixture
def mirrored(broker_url: str) -> Iterator[Mirrored]:
    """Read what a client that knows only Redis would find of a job."""
    with redis.Redis.from_url(broker_url) as client:

        def read(job_id: str) -> dict[str, Any] | None:
            copy = client.get(f"celery-task-meta-{job_id}")
            return json.loads(copy) if copy else None

        yield read


@pytest.fixture
def stranger(broker_url: str) -> Iterator[Celery]:
    """Give a Celery app that knows nothing of Tallyman but its broker."""
    with Celery("stranger", broker=broker_url, set_as_current=False) as app:
        yield app


class TestTheSetup:
    def test_answers_on_every_node(self, celery_setup: CeleryTestSetup) -> None:
        assert celery_setup.ready(control=True)
        assert len(celery_setup) == 3

    def test_shows_no_password_in_the_workers_log(
        self, celery_setup: CeleryTestSetup, broker_url: str, database_url: str
    ) -> None:
        assert celery_setup.ready()

        log = celery_setup.worker.logs()
        assert "127.0.0.1" in log
        for url in (broker_url, database_url):
            password = url.split("@")[0].rpartition(":")[2]
            assert password not in log


@pytest.fixture(params=[Door.CELERY, Door.LEDGER])
def send(request: pytest.FixtureRequest, pipeline: Pipeline) -> Callable[..., Any]:
    """Hand jobs over through one door, then through the other."""
    match request.param:
        case Door.CELERY:
            return pipeline.by_message
        case _:
            return pipeline.by_submission


@pytest.fixture
def job() -> str:
    """Give an id that was not used before."""
    return str(uuid7())


class TestAJob:
    def test_that_succeeds_answers_with_its_result(
        self, pipeline: Pipeline, send: Callable[..., Any], job: str
    ) -> None:
        pipeline.has_stock(job, 10)

        result = send(job, order(job, job, quantity=4))

        assert result.get(**WAIT) == {
            "order_id": job,
            "state": "allocated",
            "lines": [
                {
                    "line_id": "1",
                    "sku": job,
                    "quantity": 4,
                    "state": "allocated",
                    "batches": [{"reference": f"batch-{job}", "quantity": 4, "eta": None}],
                }
            ],
        }
        assert result.state == "SUCCESS"
        assert result.date_done is not None
        assert pipeline.allocated(job) == 4

    def test_that_the_business_refuses_raises_that_refusal(
        self, pipeline: Pipeline, send: Callable[..., Any], job: str
    ) -> None:
        pipeline.has_stock(job, 10)

        result = send(job, order(job, job, quantity=11))

        with pytest.raises(OutOfStock, match=r"wants 11 of .*, 10 available") as refusal:
            result.get(**WAIT)
        assert refusal.value.details == {
            "order_id": job,
            "lines": [
                {
                    "line_id": "1",
                    "sku": job,
                    "requested": 11,
                    "available": 10,
                    "earliest_eta": None,
                }
            ],
        }
        assert result.state == "FAILURE"
        assert result.traceback is None
        assert pipeline.allocated(job) == 0

    def test_that_is_refused_is_one_line_in_the_workers_log(
        self,
        pipeline: Pipeline,
        send: Callable[..., Any],
        job: str,
        celery_setup: CeleryTestSetup,
    ) -> None:
        already = len(celery_setup.worker.logs())

        send(job, order(job, "unheard-of"))

        def refusals() -> list[str]:
            lines = celery_setup.worker.logs()[already:].splitlines()
            return [line for line in lines if "attempt_refused" in line and job in line]

        eventually(refusals, what="the refusal is told")

        told = celery_setup.worker.logs()[already:]
        assert "Traceback" not in told
        assert sum("InvalidSku" in line for line in told.splitlines()) == 1

    def test_whose_attempt_fails_waits_and_is_tried_again(
        self, pipeline: Pipeline, send: Callable[..., Any], job: str
    ) -> None:
        pipeline.has_stock(job, 10)
        pipeline.breaks(job)

        result = send(job, order(job, job))

        retrying = pipeline.until(job, JobState.RETRY)
        assert retrying.run_after is not None
        assert result.state == "RETRY"
        assert type(result.result).__name__ == "InternalError"
        assert pipeline.allocated(job) == 0

        pipeline.mends(job)
        pipeline.operations.retry([job])

        assert result.get(**WAIT)["state"] == "allocated"
        assert pipeline.until(job, JobState.SUCCEEDED).attempts == 2
        assert pipeline.allocated(job) == 1

    def test_that_is_out_of_attempts_is_dead_and_says_why(
        self, pipeline: Pipeline, send: Callable[..., Any], job: str
    ) -> None:
        pipeline.has_stock(job, 10)
        pipeline.breaks(job)

        result = send(job, order(job, job))
        dead = pipeline.is_tried_to_death(job)

        assert dead.attempts == dead.max_attempts == 5
        assert [failure.attempt for failure in pipeline.queries.failures(job)] == [1, 2, 3, 4, 5]
        assert result.state == "FAILURE"
        with pytest.raises(Exception, match=r"the disk of order .* is on fire") as reason:
            result.get(**WAIT)
        assert type(reason.value).__name__ == "InternalError"
        assert "Traceback" in result.traceback
        assert pipeline.allocated(job) == 0

    def test_that_is_cancelled_does_not_run_any_more(
        self, pipeline: Pipeline, send: Callable[..., Any], job: str
    ) -> None:
        pipeline.has_stock(job, 10)
        pipeline.breaks(job)
        result = send(job, order(job, job))
        pipeline.until(job, JobState.RETRY)
        pipeline.mends(job)

        assert pipeline.operations.cancel([job]).done == (job,)

        assert result.state == "REVOKED"
        with pytest.raises(TaskRevokedError, match="cancelled"):
            result.get(**WAIT)
        pipeline.app.send_task(KIND, args=[[job]], task_id=f"hint-{job}")
        pipeline.app.send_task(KIND, kwargs=order(job, job), task_id=job)
        pipeline.has_stock(f"{job}-after", 1)
        assert pipeline.allocated(job) == 0

    def test_that_comes_again_is_answered_and_not_run(
        self, pipeline: Pipeline, send: Callable[..., Any], job: str
    ) -> None:
        pipeline.has_stock(job, 10)

        answers = [send(job, order(job, job, quantity=3)).get(**WAIT) for _ in range(3)]

        assert answers[0] == answers[1] == answers[2]
        assert pipeline.allocated(job) == 3
        assert pipeline.until(job, JobState.SUCCEEDED).attempts == 1

    def test_that_nobody_handed_over_is_pending(self, pipeline: Pipeline) -> None:
        assert pipeline.result("nobody-sent-this").state == "PENDING"
        assert pipeline.result("nobody-sent-this").result is None


class TestAMessage:
    @pytest.fixture
    def refused(
        self, pipeline: Pipeline, stranger: Celery, celery_setup: CeleryTestSetup
    ) -> Iterator[Callable[..., None]]:
        """Send what must be refused; the worker must take orders afterwards."""
        worker = celery_setup.worker

        def send(*, log: str, **message: Any) -> None:
            stranger.send_task(KIND, queue="allocation", **message)
            eventually(lambda: log in worker.logs(), what=log)

        yield send
        alive = f"alive-after-{len(worker.logs())}"
        pipeline.has_stock(alive, 1)
        assert pipeline.by_message(alive, order(alive, alive)).get(**WAIT)["state"] == "allocated"

    def test_is_mirrored_in_redis_for_a_day(
        self, pipeline: Pipeline, mirrored: Mirrored, broker_url: str
    ) -> None:
        pipeline.has_stock("mirrored", 10)

        answer = pipeline.by_message("mirrored", order("mirrored", "mirrored")).get(**WAIT)

        copy = eventually(lambda: mirrored("mirrored"), what="mirrored")
        assert copy["result"] == answer
        assert copy.keys() == {
            "status", "result", "traceback", "children", "date_done", "task_id"
        }  # fmt: skip
        with redis.Redis.from_url(broker_url) as client:
            assert 0 < client.ttl("celery-task-meta-mirrored") <= 86_400

    def test_with_a_used_id_and_another_payload_is_refused_and_harms_nothing(
        self, pipeline: Pipeline, mirrored: Mirrored, refused: Callable[..., None]
    ) -> None:
        job = "used"
        pipeline.has_stock(job, 10)
        answer = pipeline.by_message(job, order(job, job)).get(**WAIT)
        copy = eventually(lambda: mirrored(job), what="mirrored")

        refused(
            log="job_conflicts",
            task_id=job,
            kwargs=order(job, job, quantity=9),
        )

        assert pipeline.result(job).get(**WAIT) == answer
        assert mirrored(job) == copy
        assert pipeline.allocated(job) == 1

    def test_with_a_used_id_of_a_submitted_job_is_answered_from_the_ledger(
        self, pipeline: Pipeline, mirrored: Mirrored
    ) -> None:
        job = "both-doors"
        pipeline.has_stock(job, 10)
        answer = pipeline.by_submission(job, order(job, job)).get(**WAIT)
        assert mirrored(job) is None

        pipeline.by_message(job, order(job, job))

        copy = eventually(lambda: mirrored(job), what="mirrored")
        assert (copy["status"], copy["result"]) == ("SUCCESS", answer)
        assert pipeline.allocated(job) == 1

    @pytest.mark.parametrize("garbage", ["a\0b", "\ud800", 42, {"a": 1}, ["a"]])
    def test_with_garbage_about_where_it_comes_from_is_a_job_all_the_same(
        self, pipeline: Pipeline, stranger: Celery, job: str, garbage: object
    ) -> None:
        pipeline.has_stock(job, 1)

        stranger.send_task(
            KIND,
            kwargs=order(job, job),
            task_id=job,
            queue="allocation",
            parent_id=garbage,
            headers={"traceparent": garbage},
        )

        assert pipeline.result(job).get(**WAIT)["state"] == "allocated"

    @pytest.mark.parametrize(
        ("job", "payload"),
        [
            ("unknown-field", order("x", "y", colour="red")),
            ("field-missing", {"order_id": "x"}),
            ("wrong-type", {"order_id": 1, "lines": "many"}),
            ("no-payload", {}),
            ("field-named-self", {"self": 1, "order_id": "x"}),
            ("null-character", order("x\0", "y")),
            ("half-a-surrogate", order("x", "\ud800")),
            ("too-large", order("x", "y" * MOST_PAYLOAD_BYTES)),
        ],
    )
    def test_whose_payload_cannot_be_a_job_is_rejected_with_the_reason(
        self, pipeline: Pipeline, mirrored: Mirrored, job: str, payload: dict[str, Any]
    ) -> None:
        result = pipeline.by_message(job, payload)

        with pytest.raises(InvalidPayload, match="payload"):
            result.get(**WAIT)
        assert result.state == "FAILURE"
        copy = eventually(lambda: mirrored(job), what="mirrored")
        assert (copy["status"], copy["result"]["exc_type"]) == ("FAILURE", "InvalidPayload")
        assert pipeline.until(job, JobState.REJECTED).attempts == 1

    def test_with_forged_ids_does_nothing(
        self, pipeline: Pipeline, refused: Callable[..., None]
    ) -> None:
        pipeline.has_stock("others", 1)

        refused(
            log="jobs=0",
            task_id="forged",
            args=[["no-such-job", "stock-others", "'; DROP TABLE job; --"]],
        )

        assert pipeline.find("no-such-job") is None
        assert pipeline.find("forged") is None

    @pytest.mark.parametrize(
        ("job", "arguments"),
        [
            ("text", ["garbage"]),
            ("number", [42]),
            ("numbers", [[1, 2]]),
            ("nothing", [None]),
            ("null-character-in-an-id", [["a\0b"]]),
            ("half-a-surrogate-in-an-id", [["\ud800"]]),
        ],
    )
    def test_with_positional_garbage_is_parked_and_answered(
        self,
        pipeline: Pipeline,
        mirrored: Mirrored,
        refused: Callable[..., None],
        job: str,
        arguments: list[object],
    ) -> None:
        refused(
            log=f"message_id={job} queue=allocation reason=arguments", task_id=job, args=arguments
        )

        copy = eventually(lambda: mirrored(job), what="mirrored")
        assert (copy["status"], copy["result"]["exc_type"]) == ("FAILURE", "MessageParked")
        assert pipeline.find(job) is None

    def test_with_an_id_too_long_for_the_ledger_is_parked_and_answered(
        self, refused: Callable[..., None], mirrored: Mirrored
    ) -> None:
        refused(
            log="a job id is 1 to 255 printable characters",
            task_id="x" * 256,
            kwargs=order("x", "y"),
        )

        copy = eventually(lambda: mirrored("x" * 256), what="mirrored")
        assert copy["status"] == "FAILURE"
        assert copy["result"]["exc_type"] == "MessageParked"

    def test_that_is_pickled_is_parked_unread(
        self, pipeline: Pipeline, refused: Callable[..., None]
    ) -> None:
        refused(
            log="message_id=pickled queue=allocation reason=content_type",
            task_id="pickled",
            kwargs=order("x", "y"),
            serializer="pickle",
        )

        assert pipeline.find("pickled") is None


class TestASubmission:
    def test_with_a_used_id_and_another_payload_is_refused_and_harms_nothing(
        self, pipeline: Pipeline
    ) -> None:
        job = "submitted-twice"
        pipeline.has_stock(job, 10)
        answer = pipeline.by_submission(job, order(job, job)).get(**WAIT)

        with pytest.raises(IdempotencyConflict, match=job):
            pipeline.by_submission(job, order(job, job, quantity=9))

        assert pipeline.result(job).get(**WAIT) == answer
        assert pipeline.allocated(job) == 1

    def test_is_not_mirrored(self, pipeline: Pipeline, mirrored: Mirrored) -> None:
        job = "not-mirrored"
        pipeline.has_stock(job, 1)

        pipeline.by_submission(job, order(job, job)).get(**WAIT)

        assert mirrored(job) is None


class TestTheGuideForPython:
    def test_does_what_it_says(
        self, pipeline: Pipeline, environment: Mapping[str, str], folder: Path
    ) -> None:
        pipeline.has_stock("LAMP", 10)

        for code, prints in snippets("enqueue-from-python.md", "python"):
            script = subprocess.run(
                [sys.executable, "-c", code],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert (script.stdout, script.stderr) == (prints, "")

        for number in range(3, 9):
            pipeline.until(f"python-P-{number}", JobState.SUCCEEDED)
        assert pipeline.allocated("LAMP") == 10
