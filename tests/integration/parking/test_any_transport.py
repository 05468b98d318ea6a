"""A worker on a transport that is not Redis parks as well, by what it sees of messages itself."""

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amqp
import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu.transport import pyamqp
from pydantic import SecretStr
from sqlalchemy import Engine

from adapters.postgres.parked import ParkedMessages, PostgresParked
from adapters.postgres.queries import JobQueries
from domain.jobs.errors import NotRequeued, ParkedNotFound
from domain.jobs.parking import Form, Misfit, Reason
from domain.kinds import KINDS
from tasks.protocol import Unfit, admit
from tests.conftest import wait_until
from tests.e2e.bad_messages import bad_messages, envelope
from worker.addresses import Addresses
from worker.app import build_app
from worker.requeuing import requeue
from worker.settings import Settings

QUEUE = "allocation"
MOST = 30
"""Messages in hand at once: this transport looks for more every other second."""
SORTS = bad_messages(Path("nowhere"))
ONE_OF_EACH = {
    bad.reason: json.loads(bad.raw) for bad in SORTS.values() if bad.reason != "unreadable"
}


@pytest.fixture
def app(database_url: str) -> Iterator[Celery]:
    """Give a Tallyman whose broker lives in this process."""
    app = build_app(
        Settings(database_url=SecretStr(database_url), broker_url=SecretStr("memory://")),
        Addresses(database_url=database_url, broker_url="memory://", mirror_url=None),
    )
    yield app
    app.close()


@pytest.fixture
def parked(engine: Engine) -> ParkedMessages:
    return ParkedMessages(engine)


@pytest.fixture
def worker(app: Celery) -> Iterator[None]:
    """Run a worker in threads of this process."""
    with start_worker(
        app, pool="threads", concurrency=MOST, perform_ping_check=False, shutdown_timeout=60
    ):
        yield


def send(app: Celery, message: dict[str, Any]) -> None:
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        prepared = channel.prepare_message(
            b64decode(message["body"]),
            content_type=message["content-type"],
            content_encoding=message["content-encoding"],
            headers=message["headers"],
        )
        channel.basic_publish(prepared, exchange="", routing_key=QUEUE)


def finished(engine: Engine, message: dict[str, Any]) -> bool:
    job = JobQueries(engine).find(message["headers"]["id"])
    return job is not None and job.state.is_terminal


class TestAWorkerOnAnyTransport:
    def test_parks_what_is_no_job_and_does_what_is(
        self, app: Celery, worker: None, engine: Engine, parked: ParkedMessages
    ) -> None:
        for bad in ONE_OF_EACH.values():
            send(app, bad)
        good = envelope()
        send(app, good)

        wait_until(lambda: len(parked.newest()) == len(ONE_OF_EACH), seconds=60)
        wait_until(lambda: finished(engine, good), seconds=60)

        assert {message.reason for message in parked.newest()} == ONE_OF_EACH.keys()

    def test_parks_what_celery_itself_finds_a_fault_in(
        self,
        app: Celery,
        engine: Engine,
        parked: ParkedMessages,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("worker.parking.admit", lambda *_: None)
        with start_worker(
            app, pool="threads", concurrency=MOST, perform_ping_check=False, shutdown_timeout=60
        ):
            for name in ("no task", "an unknown kind", "an eta that is no time"):
                send(app, json.loads(SORTS[name].raw))
            wait_until(lambda: len(parked.newest(reason=Reason.UNHANDLED)) == 3, seconds=60)


class TestSendingAgain:
    @pytest.fixture
    def kept(self, engine: Engine) -> PostgresParked:
        return PostgresParked(engine, most_bytes=1 << 30)

    def park(self, kept: PostgresParked, content: bytes, **but: Any) -> None:
        fields = {
            "queue": QUEUE,
            "reason": Reason.UNKNOWN_KIND,
            "detail": "no job kind has this name",
            "form": Form.MESSAGE,
            "content": content,
            "size": len(content),
            "digest": content,
        }
        kept.park(Misfit(**{**fields, **but}))

    def test_runs_the_job_where_a_newer_worker_knows_it(
        self,
        app: Celery,
        worker: None,
        engine: Engine,
        parked: ParkedMessages,
        kept: PostgresParked,
    ) -> None:
        message = envelope()
        self.park(kept, json.dumps(message).encode())
        [number] = parked.open_ids()

        requeue(app, parked, number)

        wait_until(lambda: finished(engine, message), seconds=60)
        assert parked.open_ids() == []
        with pytest.raises(ParkedNotFound):
            requeue(app, parked, number)

    @pytest.mark.parametrize(
        ("content", "but", "why"),
        [
            (b"{}", {"size": 3}, "not kept whole"),
            (b"garbage", {"form": Form.BYTES}, "lay in a list of Redis"),
            (json.dumps({**envelope(), "body": "a"}).encode(), {}, "cannot be written"),
        ],
    )
    def test_says_what_cannot_be_sent(  # noqa: PLR0917  pytest gives them by name
        self,
        app: Celery,
        parked: ParkedMessages,
        kept: PostgresParked,
        content: bytes,
        but: dict[str, Any],
        why: str,
    ) -> None:
        self.park(kept, content, **but)
        [number] = parked.open_ids()

        with pytest.raises(NotRequeued, match=why):
            requeue(app, parked, number)

        assert parked.open_ids() == [number]


class TestAMessageOfRabbitMQ:
    def message(self, **but: Any) -> pyamqp.Message:
        came = envelope()
        delivered = amqp.Message(
            **{
                "body": b64decode(came["body"]),
                "content_type": "application/json",
                "content_encoding": "utf-8",
                "application_headers": came["headers"],
                "correlation_id": "c",
                **but,
            }
        )
        delivered.delivery_info = {"delivery_tag": 1, "routing_key": QUEUE}
        return pyamqp.Message(delivered, channel=None)

    def test_is_taken_where_it_is_a_job(self) -> None:
        message = self.message()
        admit(message, KINDS)
        assert message.headers["task"] in KINDS
        assert message.properties["correlation_id"] == "c"

    @pytest.mark.parametrize(
        ("but", "reason"),
        [
            ({"content_type": None}, Reason.CONTENT_TYPE),
            ({"application_headers": None}, Reason.PROTOCOL),
            ({"body": "text"}, Reason.UNDECODABLE),
            ({"content_encoding": "zip"}, Reason.UNDECODABLE),
        ],
    )
    def test_is_unfit_where_it_is_none(self, but: dict[str, Any], reason: Reason) -> None:
        with pytest.raises(Unfit) as unfit:
            admit(self.message(**but), KINDS)
        assert unfit.value.reason is reason
