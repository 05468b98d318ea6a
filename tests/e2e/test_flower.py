"""Jobs as Flower shows them, found by their own ids, and what its buttons do to them."""

from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

import pytest
from sqlalchemy import Engine

from adapters.postgres.queue_settings import PostgresQueueSettings
from domain.jobs.model import Door, JobState, Submission
from tests.e2e.flower_site import PASSWORD, FlowerSite
from tests.e2e.pipeline import KIND, Pipeline, order
from tests.e2e.processes import eventually


@pytest.fixture(params=[Door.CELERY, Door.LEDGER])
def door(request: pytest.FixtureRequest) -> Door:
    """Hand jobs over through one door, then through the other."""
    return Door(request.param)


def hand_over(pipeline: Pipeline, door: Door, job_id: str, payload: Mapping[str, object]) -> None:
    (pipeline.by_message if door is Door.CELERY else pipeline.by_submission)(job_id, payload)


class TestFlower:
    def test_shows_the_four_states(
        self, pipeline: Pipeline, flower: FlowerSite, door: Door
    ) -> None:
        send = pipeline.by_message if door is Door.CELERY else pipeline.by_submission
        jobs = pipeline.with_four_jobs(send, f"flower-{door}")

        assert "'state': 'allocated'" in flower.shows(jobs.succeeded, "SUCCESS")["result"]
        refused = flower.shows(jobs.rejected, "FAILURE")
        assert refused["exception"].startswith("OutOfStock(")
        assert "wants 11" in refused["exception"]
        retrying = flower.shows(jobs.retrying, "RETRY")
        assert f"the disk of order {jobs.retrying} is on fire" in retrying["exception"]
        dead = flower.shows(jobs.dead, "FAILURE")
        assert f"the disk of order {jobs.dead} is on fire" in dead["exception"]
        for job_id in (jobs.succeeded, jobs.rejected, jobs.retrying, jobs.dead):
            shown = flower.task(job_id) or {}
            assert (shown["name"], shown["args"]) == (KIND, f"order {job_id}, 1 line")

        pipeline.mends(jobs.retrying)
        pipeline.operations.retry([jobs.retrying])
        flower.shows(jobs.retrying, "SUCCESS")

    def test_shows_what_is_not_due_as_to_be_tried_again(
        self, pipeline: Pipeline, flower: FlowerSite
    ) -> None:
        pipeline.app.send_task(
            KIND, kwargs=order("tomorrow", "none"), task_id="tomorrow", countdown=86_400
        )
        assert flower.shows("tomorrow", "RETRY")["exception"] == "it is not due yet"

    def test_says_how_many_jobs_a_message_has(self, pipeline: Pipeline, flower: FlowerSite) -> None:
        pipeline.producer.submit_many(
            Submission(job_id=f"many-{number}", kind=KIND, payload=order(f"many-{number}", "none"))
            for number in range(64)
        )
        pipeline.until("many-63", JobState.REJECTED)

        def listed() -> list[str]:
            shown = flower.get("/api/tasks?search=args:many-").data.values()
            return [task["args"] for task in shown if task["result"]]

        [first, *_] = eventually(listed, what="Flower shows a message of many jobs")
        assert " jobs, first many-" in first

    def test_shows_no_password(
        self, pipeline: Pipeline, flower: FlowerSite, database_url: str, broker_url: str
    ) -> None:
        secrets = {PASSWORD}
        for url in (database_url, broker_url):
            password = urlsplit(url).password
            assert password
            secrets |= {password, unquote(password)}
        worker = flower.only_worker()
        for path in (
            *("/workers", "/workers?json=1", f"/worker/{worker}", "/broker", "/tasks", "/metrics"),
            *("/api/workers", "/api/workers?refresh=1", f"/api/workers?workername={worker}"),
            *("/api/queues/length", "/api/tasks", "/task/nothing", "/api/task/result/nothing"),
        ):
            answer = flower.get(path)
            assert answer.status in {200, 404}, path
            assert answer.text, path
            assert not [secret for secret in secrets if secret in answer.text], path
        # What is not answered within a second is not there, and asked again.
        eventually(
            lambda: "result_backend" in flower.get(f"/worker/{worker}").text,
            what="Flower shows how the worker is configured",
        )
        assert not [secret for secret in secrets if secret in flower.logs()]


class TestItsButtons:
    @pytest.fixture(autouse=True)
    def hanging(self, pipeline: Pipeline) -> Iterator[None]:
        """Have orders hang that are named in a table."""
        with pipeline.hanging_orders():
            yield

    def test_to_terminate_a_job_neither_loses_nor_doubles_it(
        self, pipeline: Pipeline, flower: FlowerSite, door: Door
    ) -> None:
        job_id = sku = f"terminated-{door}"
        pipeline.has_stock(sku, 10)
        pipeline.database.execute("INSERT INTO hanging_order VALUES (%s)", [job_id])
        hand_over(pipeline, door, job_id, order(job_id, sku, quantity=4))
        before = _hanging(pipeline)

        assert flower.post(f"/api/task/revoke/{job_id}?terminate=true").status == 200
        eventually(lambda: _hanging(pipeline) != before, what="another process has the job")
        pipeline.database.execute("DELETE FROM hanging_order")

        pipeline.until(job_id, JobState.SUCCEEDED)
        assert pipeline.allocated(sku) == 4
        flower.shows(job_id, "SUCCESS")

    def test_to_terminate_a_job_again_and_again_uses_up_its_attempts(
        self, pipeline: Pipeline, flower: FlowerSite
    ) -> None:
        job_id = sku = "hopeless"
        pipeline.has_stock(sku, 10)
        pipeline.database.execute("INSERT INTO hanging_order VALUES (%s)", [job_id])
        pipeline.by_submission(job_id, order(job_id, sku))
        killed = ""

        def is_dead() -> bool:
            nonlocal killed
            hanging = _in_hand(pipeline)
            if hanging not in {"", killed}:
                killed = hanging
                assert flower.post(f"/api/task/revoke/{job_id}?terminate=true").status == 200
            job = pipeline.find(job_id)
            return job is not None and job.state is JobState.DEAD

        # A worker may need five seconds to notice that a process of its has gone.
        eventually(is_dead, what="its attempts are used up", within=150)
        dead = flower.shows(job_id, "FAILURE")
        assert "the worker died in each of 5 attempts" in dead["exception"]
        assert pipeline.allocated(sku) == 0

    def test_to_terminate_a_job_of_a_paused_queue_lets_it_be_cancelled(
        self, pipeline: Pipeline, flower: FlowerSite, engine: Engine
    ) -> None:
        job_id = sku = "hanging"
        pipeline.has_stock(sku, 10)
        pipeline.database.execute("INSERT INTO hanging_order VALUES (%s)", [job_id])
        pipeline.by_message(job_id, order(job_id, sku))
        _hanging(pipeline)
        assert flower.post(f"/api/task/revoke/{job_id}").status == 409

        killed = ""

        def is_cancelled() -> bool:
            nonlocal killed
            hanging = _in_hand(pipeline)
            # Workers learn half a second late that a queue is paused.
            if hanging not in {"", killed}:
                killed = hanging
                flower.post(f"/api/task/revoke/{job_id}?terminate=true")
            return flower.post(f"/api/task/revoke/{job_id}").status == 200

        queues = PostgresQueueSettings(engine)
        queues.pause(["allocation"], reason="a job hangs")
        try:
            # It may be killed twice, and each time five seconds go by before that is noticed.
            eventually(is_cancelled, what="it is cancelled", within=90)
        finally:
            queues.resume(["allocation"])
        pipeline.until(job_id, JobState.CANCELLED)
        assert pipeline.allocated(sku) == 0

    def test_to_revoke_a_job_withdraws_it_from_the_ledger(
        self, pipeline: Pipeline, flower: FlowerSite, door: Door
    ) -> None:
        job_id = sku = f"revoked-{door}"
        pipeline.has_stock(sku, 10)
        pipeline.breaks(job_id)
        hand_over(pipeline, door, job_id, order(job_id, sku))
        pipeline.until(job_id, JobState.RETRY)

        revoked = flower.post(f"/api/task/revoke/{job_id}")

        assert (revoked.status, revoked.data["message"]) == (200, f"Cancelled '{job_id}'")
        pipeline.until(job_id, JobState.CANCELLED)
        # A message that was under way all the same.
        pipeline.by_message(job_id, order(job_id, sku))
        flower.shows(job_id, "REVOKED")

    def test_to_revoke_what_is_unknown_or_done_says_why_not(
        self, pipeline: Pipeline, flower: FlowerSite
    ) -> None:
        job_id = "revoked-late"
        pipeline.by_submission(job_id, order(job_id, "nothing-there"))
        pipeline.until(job_id, JobState.REJECTED)
        late = flower.post(f"/api/task/revoke/{job_id}")
        unknown = flower.post("/api/task/revoke/revoked-never-sent")
        assert (late.status, unknown.status) == (409, 409)
        assert "rejected" in late.text
        assert "has no job" in unknown.text

    def test_do_not_make_workers_throw_away_a_message(
        self, pipeline: Pipeline, flower: FlowerSite
    ) -> None:
        # As Celery's own clients revoke: workers drop messages of this id for three hours.
        job_id = sku = "revoked-by-a-client"
        pipeline.has_stock(sku, 10)
        answers = pipeline.app.control.revoke(job_id, reply=True, timeout=30, limit=1)
        assert answers
        pipeline.by_submission(job_id, order(job_id, sku, quantity=3))
        pipeline.until(job_id, JobState.SUCCEEDED)
        assert pipeline.allocated(sku) == 3


def _hanging(pipeline: Pipeline) -> str:
    """Wait until an order hangs; return what has it."""
    return eventually(lambda: _in_hand(pipeline), what="an order hangs")


def _in_hand(pipeline: Pipeline) -> str:
    names = pipeline.database.execute(
        "SELECT application_name FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    return "".join(name for (name,) in names)
