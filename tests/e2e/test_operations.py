"""What operators do to jobs with the command, while a pipeline works on them."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from pytest_celery import CeleryTestSetup

from domain.jobs.model import JobState
from tests.e2e.pipeline import KIND, Pipeline, order
from tests.e2e.processes import eventually

Tallyman = Callable[..., dict[str, Any]]

HANGING = """
SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"""


@pytest.fixture
def tallyman(environment: Mapping[str, str], folder: Path) -> Tallyman:
    """Give the command, as operators run it."""

    def run(*arguments: str) -> dict[str, Any]:
        ran = subprocess.run(
            [sys.executable, "-m", "worker.command.main", *arguments, "--json"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode in (0, 1), ran.stderr
        printed: dict[str, Any] = json.loads(ran.stdout)
        return printed

    return run


def submit(pipeline: Pipeline, sku: str, orders: int) -> list[str]:
    ids = [f"{sku}-{number}" for number in range(orders)]
    pipeline.producer.submit_many(
        pipeline.producer.submission(KIND, order(job_id, sku), job_id=job_id) for job_id in ids
    )
    return ids


def in_state(pipeline: Pipeline, ids: list[str], state: JobState) -> int:
    [jobs] = pipeline.one("SELECT count(*) FROM job WHERE id = ANY(%s) AND state = %s", ids, state)
    return int(jobs)


class TestCancel:
    def test_keeps_jobs_from_running_whose_messages_are_on_their_way(
        self, pipeline: Pipeline, tallyman: Tallyman, celery_setup: CeleryTestSetup
    ) -> None:
        pipeline.has_stock("recalled", 1_000)
        celery_setup.worker.kill("SIGSTOP")
        ids = submit(pipeline, "recalled", 40)
        eventually(
            lambda: pipeline.one("SELECT min(dispatches) FROM job WHERE id = ANY(%s)", ids) > (0,),
            what="all are told to the workers",
        )

        tallyman("jobs", "cancel", *ids[:20])
        celery_setup.worker.kill("SIGCONT")

        for job_id in ids[20:]:
            pipeline.until(job_id, JobState.SUCCEEDED)
        # The last message of all: those of the cancelled were there before it.
        pipeline.has_stock("recalled-after", 1)
        assert in_state(pipeline, ids[:20], JobState.CANCELLED) == 20
        assert pipeline.allocated("recalled") == 20
        with pytest.raises(TaskRevokedError):
            pipeline.result(ids[0]).get()

    def test_and_a_worker_never_both_have_their_way_with_a_job(
        self, pipeline: Pipeline, celery_setup: CeleryTestSetup
    ) -> None:
        pipeline.has_stock("raced", 10_000)
        celery_setup.worker.kill("SIGSTOP")
        ids = submit(pipeline, "raced", 2_000)
        # Some before the worker goes on: it may have run all others before the next is cancelled.
        pipeline.operations.cancel(ids[-20:])
        celery_setup.worker.kill("SIGCONT")

        # From the other end, so that they meet somewhere.
        for start in range(len(ids) - 40, -1, -20):
            pipeline.operations.cancel(ids[start : start + 20])

        def are_settled() -> bool:
            done = in_state(pipeline, ids, JobState.SUCCEEDED)
            return done + in_state(pipeline, ids, JobState.CANCELLED) == len(ids)

        eventually(are_settled, what="all have ended one way or the other")
        assert in_state(pipeline, ids, JobState.CANCELLED) > 0
        assert pipeline.allocated("raced") == in_state(pipeline, ids, JobState.SUCCEEDED)


class TestRetry:
    def test_runs_what_was_dead_once_its_cause_is_gone(
        self, pipeline: Pipeline, tallyman: Tallyman
    ) -> None:
        pipeline.has_stock("revived", 10)
        for job_id in ("revived-by-message", "revived-submission"):
            pipeline.breaks(job_id)
        pipeline.by_message("revived-by-message", order("revived-by-message", "revived"))
        pipeline.by_submission("revived-submission", order("revived-submission", "revived"))
        for job_id in ("revived-by-message", "revived-submission"):
            pipeline.is_tried_to_death(job_id)
            pipeline.mends(job_id)

        tallyman("jobs", "retry", "--state", "dead", "--kind", KIND)

        for job_id in ("revived-by-message", "revived-submission"):
            assert pipeline.until(job_id, JobState.SUCCEEDED).attempts == 1
        assert pipeline.allocated("revived") == 2

    def test_makes_due_at_once_what_waits_for_its_next_attempt(
        self, pipeline: Pipeline, tallyman: Tallyman
    ) -> None:
        job = "hurried"
        pipeline.has_stock(job, 10)
        pipeline.breaks(job)
        pipeline.by_submission(job, order(job, job))
        eventually(
            partial(in_state, pipeline, [job], JobState.RETRY), what="it waits for a day or so"
        )
        pipeline.mends(job)

        tallyman("jobs", "retry", job)

        assert pipeline.until(job, JobState.SUCCEEDED).attempts == 2
        assert pipeline.allocated(job) == 1


class TestTop:
    def test_shows_the_workers_and_what_runs(self, pipeline: Pipeline, tallyman: Tallyman) -> None:
        pipeline.has_stock("top", 5)
        # It does not wait for a lock: for that a worker would wait for five seconds only.
        with pipeline.hanging_orders():
            pipeline.database.execute("INSERT INTO hanging_order VALUES ('top')")
            pipeline.by_submission("top", order("top", "top"))
            eventually(
                lambda: pipeline.database.execute(HANGING).fetchall(), what="the order hangs"
            )

            def seen() -> dict[str, Any] | None:
                shown = tallyman("top")
                # Who does not answer within a second is not there, and what was done a moment ago
                # may still be in hand.
                busy = [worker["busy"] for worker in shown["workers"] or ()]
                return shown if busy == [1] and shown["relay_measures"] else None

            shown = eventually(seen, what="a worker is busy")
        pipeline.until("top", JobState.SUCCEEDED)
        [worker] = shown["workers"]
        assert (worker["processes"], worker["closed"]) == (2, None)
        allocation = shown["queues"][0]
        assert (allocation["queue"], allocation["running"]) == ("allocation", 1)
