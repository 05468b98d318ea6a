"""Where outcomes are mirrored for clients that know only Redis."""

import json
import socket
from collections.abc import Iterator

import pytest
import redis
from celery import Celery
from structlog.testing import capture_logs

from adapters.result_backend import RedisMirror
from domain.jobs.model import Door, Failure, Job, JobState


def job(state: JobState, *, error: Failure | None = None) -> Job:
    return Job(
        id="copied",
        kind="test.probe",
        door=Door.CELERY,
        payload={},
        payload_hash=b"",
        state=state,
        attempts=1,
        max_attempts=5,
        dispatches=1,
        result={"done": True} if state is JobState.SUCCEEDED else None,
        error=error,
    )


def patient(mirror: RedisMirror) -> RedisMirror:
    """Have it wait for a Redis that is slow: it gives up after a second or two."""
    mirror._backend.connparams.update(socket_timeout=60.0, socket_connect_timeout=60.0)
    return mirror


def resting(mirror: RedisMirror) -> RedisMirror:
    """Have it leave Redis alone for longer than any machine stands still, once that is away."""
    mirror._breaker._circuit.reset_timeout = 3_600
    return mirror


@pytest.fixture
def app() -> Iterator[Celery]:
    """Give an app as the worker's: its backend is not the mirror."""
    with Celery(set_as_current=False) as app:
        yield app


@pytest.fixture
def silent_url() -> Iterator[str]:
    """Give the address of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


# Celery's Redis backend calls what redis-py has deprecated.
@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
class TestTheMirror:
    def test_keeps_an_outcome_as_celery_does(self, app: Celery, broker_url: str) -> None:
        patient(RedisMirror(app, broker_url, expires_seconds=600)).copy(job(JobState.SUCCEEDED))

        with redis.Redis.from_url(broker_url) as client:
            copy = json.loads(client.get("celery-task-meta-copied") or "null")
            assert (copy["status"], copy["result"]) == ("SUCCESS", {"done": True})
            assert 0 < client.ttl("celery-task-meta-copied") <= 600

    def test_tells_a_refusal_with_its_details(self, app: Celery, broker_url: str) -> None:
        refusal = Failure(
            type="Refused", module="domain.errors", message="no", details={"why": "asked to"}
        )

        patient(RedisMirror(app, broker_url, expires_seconds=60)).copy(
            job(JobState.REJECTED, error=refusal)
        )

        with redis.Redis.from_url(broker_url) as client:
            copy = json.loads(client.get("celery-task-meta-copied") or "null")
        assert (copy["status"], copy["traceback"]) == ("FAILURE", None)
        assert copy["result"] == {
            "exc_type": "Refused",
            "exc_module": "domain.errors",
            "exc_message": ["no", {"why": "asked to"}],
        }

    def test_tells_what_is_not_ours_by_its_name_alone(self, app: Celery, broker_url: str) -> None:
        # SQLAlchemy's InternalError takes three arguments: made of one, it would be a TypeError.
        broken = Failure(
            type="InternalError", module="sqlalchemy.exc", message="on fire", traceback="Trace…"
        )

        patient(RedisMirror(app, broker_url, expires_seconds=60)).copy(
            job(JobState.DEAD, error=broken)
        )

        with Celery(backend=broker_url, set_as_current=False) as client:
            found = client.AsyncResult("copied")
            assert type(found.result).__name__ == "InternalError"
            assert found.result.args == ("on fire",)
            assert found.traceback == "Trace…"
            client.backend.result_consumer.stop()
            client.backend.client.close()

    def test_does_not_hold_a_worker_up_where_redis_is_silent(
        self, app: Celery, silent_url: str
    ) -> None:
        mirror = resting(RedisMirror(app, silent_url, expires_seconds=60))

        with capture_logs() as logs:
            mirror.copy(job(JobState.SUCCEEDED))
            mirror.copy(job(JobState.SUCCEEDED))

        assert [entry["event"] for entry in logs] == [
            "circuit_opened",
            "mirror_failed",
            "mirror_left_out",
        ]

    def test_is_not_missed_where_redis_is_away(self, app: Celery) -> None:
        mirror = resting(RedisMirror(app, "redis://127.0.0.1:1/0", expires_seconds=60))

        with capture_logs() as logs:
            mirror.copy(job(JobState.SUCCEEDED))
            mirror.copy(job(JobState.SUCCEEDED))

        assert [entry["event"] for entry in logs] == [
            "circuit_opened",
            "mirror_failed",
            "mirror_left_out",
        ]
