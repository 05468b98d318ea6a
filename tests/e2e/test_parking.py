"""Messages that are no job: parked, whoever sent them, while their neighbours pass."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from pytest_celery import CeleryTestSetup
from sqlalchemy import Engine
from uuid6 import uuid7

from adapters.postgres.parked import ParkedMessages, ParkedView
from domain.jobs.model import JobState
from tests.e2e.bad_messages import KIND, Bad, bad_messages, envelope, nested
from tests.e2e.pipeline import Pipeline, order
from tests.e2e.processes import eventually

SORTS = bad_messages(Path("nowhere"))
LONG_AGO = 0.0


@pytest.fixture(scope="module")
def settings() -> Mapping[str, object]:
    """Log in a form that can be searched."""
    return {"log_format": "json"}


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    """Give a connection to the broker."""
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def parked(engine: Engine) -> ParkedMessages:
    return ParkedMessages(engine)


@pytest.fixture
def job() -> str:
    """Give an id that was not used before."""
    return str(uuid7())


@pytest.fixture
def said(celery_setup: CeleryTestSetup) -> Callable[[], str]:
    """Read what the worker has logged since the test began."""
    assert celery_setup.ready()
    before = len(celery_setup.worker.logs())
    return lambda: str(celery_setup.worker.logs()[before:])


@pytest.fixture
def newest(parked: ParkedMessages) -> Callable[[], ParkedView]:
    """Wait until a message is parked that was not when the test began."""
    known = parked.newest(limit=1, closed=True)
    before = known[0].id if known else 0

    def there() -> ParkedView | None:
        found = parked.newest(limit=1)
        return found[0] if found and found[0].id > before else None

    return lambda: eventually(there, what="a message is parked")


@pytest.fixture
def neighbour(pipeline: Pipeline, said: Callable[[], str]) -> Iterator[Callable[[], str]]:
    """Send an order behind what is bad; it must pass, and nothing may have stumbled."""
    sent: list[str] = []

    def send() -> str:
        sent.append(str(uuid7()))
        pipeline.by_message(sent[-1], order(sent[-1], "unheard-of"))
        return sent[-1]

    yield send
    for job_id in sent:
        pipeline.until(job_id, JobState.REJECTED)
    assert "Connection to broker lost" not in said()


class TestAMessageThatIsNoJob:
    @pytest.fixture
    def bad(self, request: pytest.FixtureRequest, tmp_path: Path) -> Bad:
        """Make it anew, so that what it leaves behind is found."""
        return bad_messages(tmp_path / "unpickled")[request.param]

    @pytest.mark.parametrize("bad", SORTS, indirect=True, ids=list(SORTS))
    def test_is_parked_and_its_neighbours_pass(  # noqa: PLR0917  fixtures are given by name
        self,
        broker: redis.Redis,
        newest: Callable[[], ParkedView],
        neighbour: Callable[[], str],
        said: Callable[[], str],
        bad: Bad,
        tmp_path: Path,
    ) -> None:
        broker.lpush("allocation", bad.raw)
        neighbour()

        found = newest()

        assert (found.reason, found.queue, found.copies) == (bad.reason, "allocation", 1)
        assert found.kept == min(found.size, 1 << 20)
        # Its neighbour may still have to be taken.
        eventually(
            lambda: not (broker.llen("allocation") or broker.hlen("unacked")),
            what="nothing waits, and all is acknowledged",
        )
        assert "Traceback" not in said()
        assert not (tmp_path / "unpickled").exists()

    def test_is_counted_where_it_comes_again(
        self,
        broker: redis.Redis,
        newest: Callable[[], ParkedView],
        neighbour: Callable[[], str],
    ) -> None:
        broker.lpush("allocation", *[b"the same"] * 50)
        neighbour()

        eventually(lambda: newest().copies == 50, what="all are counted")

    def test_is_answered_where_its_producer_may_wait(
        self, pipeline: Pipeline, broker: redis.Redis, newest: Callable[[], ParkedView], job: str
    ) -> None:
        pipeline.app.send_task("allocation.from_tomorrow", task_id=job, queue="allocation")

        assert (newest().task, newest().message_id) == ("allocation.from_tomorrow", job)
        told = eventually(lambda: _mirrored_as(broker, job, "FAILURE"), what="mirrored")
        assert told["result"]["exc_type"] == "MessageParked"

    def test_does_not_speak_for_the_job_whose_id_it_bears(
        self, pipeline: Pipeline, broker: redis.Redis, newest: Callable[[], ParkedView], job: str
    ) -> None:
        pipeline.by_message(job, order(job, "unheard-of"))
        pipeline.until(job, JobState.REJECTED)
        copy = eventually(lambda: broker.get(f"celery-task-meta-{job}"), what="mirrored")

        broker.lpush("allocation", json.dumps(envelope(headers={"id": job, "task": "x.y"})))

        assert newest().message_id == job
        eventually(lambda: not broker.hlen("unacked"), what="it is acknowledged")
        assert broker.get(f"celery-task-meta-{job}") == copy

    def test_of_a_kind_that_the_ledger_waits_for_is_left_to_the_ledger(
        self,
        pipeline: Pipeline,
        broker: redis.Redis,
        parked: ParkedMessages,
        said: Callable[[], str],
        job: str,
    ) -> None:
        before = len(parked.newest(limit=1_000))
        pipeline.database.execute(
            "INSERT INTO job (id, kind, queue, door, payload, payload_hash, max_attempts,"
            " next_dispatch) VALUES (%s, 'allocation.from_tomorrow', 'allocation', 'ledger', '{}',"
            " '', 5, now())",
            [job],
        )

        eventually(lambda: "unknown_kind_left" in said(), what="it is left")

        eventually(lambda: not broker.hlen("unacked"), what="it is acknowledged")
        assert len(parked.newest(limit=1_000)) == before
        assert pipeline.until(job, JobState.QUEUED).attempts == 0
        pipeline.operations.cancel([job])

    def test_waits_with_the_broker_while_it_cannot_be_parked(  # noqa: PLR0917  as above
        self,
        pipeline: Pipeline,
        celery_setup: CeleryTestSetup,
        broker: redis.Redis,
        newest: Callable[[], ParkedView],
        neighbour: Callable[[], str],
        said: Callable[[], str],
    ) -> None:
        pipeline.database.execute("ALTER TABLE parked_message RENAME TO away")
        try:
            broker.lpush("allocation", b"must wait")
            eventually(lambda: "parking_waits" in said(), what="it cannot be parked")

            pipeline.until(neighbour(), JobState.REJECTED)
            assert celery_setup.ready(control=True)
            # Redis is told a moment later that the neighbour is done.
            eventually(lambda: broker.hlen("unacked") == 1, what="it alone is not acknowledged")
        finally:
            pipeline.database.execute("ALTER TABLE away RENAME TO parked_message")

        assert newest().reason == "unreadable"
        eventually(lambda: not broker.hlen("unacked"), what="it is acknowledged")
        assert said().count("parking_waits") == 1

    def test_comes_again_where_its_worker_dies_before_it_is_parked(
        self,
        pipeline: Pipeline,
        celery_setup: CeleryTestSetup,
        broker: redis.Redis,
        newest: Callable[[], ParkedView],
    ) -> None:
        pipeline.database.execute("ALTER TABLE parked_message RENAME TO away")
        try:
            broker.lpush("allocation", b"must not be lost")
            # What was sent before it may be there still, or again.
            eventually(
                lambda: any(b"must not be lost" in taken for taken in broker.hvals("unacked")),
                what="it is taken",
            )
            celery_setup.worker.kill("SIGKILL")
        finally:
            pipeline.database.execute("ALTER TABLE away RENAME TO parked_message")
        celery_setup.worker.container.start()
        assert celery_setup.ready(control=True)
        long_ago: dict[Any, float] = dict.fromkeys(broker.hkeys("unacked"), LONG_AGO)
        broker.zadd("unacked_index", long_ago)

        assert newest().reason == "unreadable"
        assert newest().size == len(b"must not be lost")


class TestWhatIsNotedAsTaken:
    @pytest.mark.parametrize(
        "noted",
        [
            b"\xff garbage",
            b" null",
            b"[1, 2]",
            b'[{"noted": 1}, "", "allocation"]',
            b'[{"headers": {}, "properties": {}, "body": 5}, "", "allocation"]',
            json.dumps([envelope(), "no-such-exchange", "x"]).encode(),
            json.dumps([envelope(), {}, []]).encode(),
            nested(99_000).encode(),
            json.dumps([envelope(headers={"lang": "deep"}), "", "allocation"])
            .replace('"deep"', nested(900))
            .encode(),
        ],
        ids=lambda noted: noted[:20].decode(errors="replace"),
    )
    def test_and_is_no_message_is_parked(
        self,
        broker: redis.Redis,
        newest: Callable[[], ParkedView],
        neighbour: Callable[[], str],
        noted: bytes,
    ) -> None:
        broker.hset("unacked", "forged", noted)
        broker.zadd("unacked_index", {"forged": LONG_AGO})
        neighbour()

        assert newest().reason == "unreadable"
        eventually(lambda: not broker.zcard("unacked_index"), what="nothing is noted any more")


class TestACommandToAllWorkers:
    @pytest.mark.parametrize(
        "command",
        ["garbage", "42", "{}", '{"properties": {}}', nested(100_000), json.dumps(envelope())],
        ids=lambda command: command[:15],
    )
    @pytest.mark.parametrize("exchange", ["celery.pidbox", "no.such"])
    def test_that_nobody_understands_is_not_obeyed(
        self, broker: redis.Redis, neighbour: Callable[[], str], command: str, exchange: str
    ) -> None:
        broker.publish(f"/0.{exchange}", command)
        neighbour()


class TestAJobWithATime:
    def test_is_put_on_record_until_then(self, pipeline: Pipeline, job: str) -> None:
        eta = datetime(2999, 1, 1, 12, tzinfo=UTC)
        pipeline.app.send_task(KIND, kwargs=order(job, "unheard-of"), task_id=job, eta=eta)

        found = pipeline.until(job, JobState.QUEUED)

        assert (found.run_after, found.attempts) == (eta, 0)
        assert pipeline.result(job).state == "QUEUED"

    def test_runs_when_it_has_come(self, pipeline: Pipeline, broker: redis.Redis, job: str) -> None:
        # Whether it is on record until then, or its message arrives too late for that.
        due = datetime.now(tz=UTC) + timedelta(seconds=2)
        pipeline.app.send_task(KIND, kwargs=order(job, "unheard-of"), task_id=job, eta=due)

        found = pipeline.until(job, JobState.REJECTED)

        assert found.finished_at is not None
        assert found.finished_at >= due
        copy = eventually(lambda: _mirrored_as(broker, job, "FAILURE"), what="mirrored")
        assert copy["result"]["exc_type"] == "InvalidSku"

    def test_runs_now_where_that_is_past(self, pipeline: Pipeline, job: str) -> None:
        eta = datetime(2001, 1, 1, tzinfo=UTC)
        pipeline.app.send_task(KIND, kwargs=order(job, "unheard-of"), task_id=job, eta=eta)

        pipeline.until(job, JobState.REJECTED)

    @pytest.mark.parametrize(
        "times",
        [
            {"expires": datetime(2001, 1, 1, tzinfo=UTC)},
            {
                "eta": datetime(2999, 1, 2, tzinfo=UTC),
                "expires": datetime(2999, 1, 1, tzinfo=UTC),
            },
        ],
        ids=["past", "before-its-eta"],
    )
    def test_is_cancelled_where_it_can_only_expire(
        self, pipeline: Pipeline, broker: redis.Redis, job: str, times: Mapping[str, Any]
    ) -> None:
        pipeline.app.send_task(KIND, kwargs=order(job, "unheard-of"), task_id=job, **times)

        found = pipeline.until(job, JobState.CANCELLED)

        assert found.error is not None
        assert found.error.type == "Expired"
        assert eventually(lambda: _mirrored_as(broker, job, "REVOKED"), what="mirrored")

    def test_runs_where_it_has_not_expired(self, pipeline: Pipeline, job: str) -> None:
        soon = datetime.now(tz=UTC) + timedelta(hours=1)
        pipeline.app.send_task(KIND, kwargs=order(job, "unheard-of"), task_id=job, expires=soon)

        pipeline.until(job, JobState.REJECTED)

    def test_stays_as_it_is_where_its_id_was_used(self, pipeline: Pipeline, job: str) -> None:
        payload = order(job, "unheard-of")
        pipeline.by_message(job, payload)
        pipeline.until(job, JobState.REJECTED)
        marker = str(uuid7())

        past = datetime(2001, 1, 1, tzinfo=UTC)
        pipeline.app.send_task(KIND, kwargs=payload, task_id=job, expires=past)
        pipeline.by_message(marker, order(marker, "unheard-of"))

        pipeline.until(marker, JobState.REJECTED)
        pipeline.until(job, JobState.REJECTED)


class TestWhatAMessageSaysOfItself:
    @pytest.mark.parametrize(
        "said",
        [
            {"timelimit": "abc"},
            {"timelimit": [1e9, 1e9]},
            {"timelimit": [-1, None]},
            {"retries": "many"},
            {"group": {"a": 1}, "group_index": "x", "root_id": [1], "parent_id": 2},
            {"stamped_headers": ["a"], "stamps": 5},
            {"shadow": "another\nname", "argsrepr": ["x"], "kwargsrepr": 9},
            {"ignore_result": "yes", "replaced_task_nesting": "x"},
            {"redelivered": "x", "hostname": 1, "delivery_info": 7, "is_eager": True},
            {"x" * 1_000: "y" * 10_000},
            {"traceparent": "t" * 10_000},
        ],
        ids=lambda said: next(iter(said))[:20],
    )
    def test_beside_its_job_is_not_believed(
        self, pipeline: Pipeline, broker: redis.Redis, job: str, said: Mapping[str, Any]
    ) -> None:
        kwargs = order(job, "unheard-of")
        properties = {"correlation_id": "c" * 10_000, "priority": float("inf"), "reply_to": [1]}
        message = envelope(kwargs=kwargs, headers={**said, "id": job}, properties=properties)
        broker.lpush("allocation", json.dumps(message))

        assert pipeline.until(job, JobState.REJECTED).correlation_id == job


def _mirrored_as(broker: redis.Redis, job_id: str, state: str) -> dict[str, Any] | None:
    copy = broker.get(f"celery-task-meta-{job_id}")
    found: dict[str, Any] | None = json.loads(copy) if copy else None
    return found if found and found["status"] == state else None
