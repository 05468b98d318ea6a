"""What is of people shows nowhere but in the tables, however their jobs end."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from pytest_celery import CeleryTestSetup
from sqlalchemy import Engine

from adapters.embedded.servers import EmbeddedServers
from adapters.postgres.parked import ParkedMessages
from domain.jobs.model import JobState
from tests.conftest import ROOT
from tests.e2e.bad_messages import NO_CALLBACKS, envelope
from tests.e2e.flower_site import FlowerSite
from tests.e2e.pipeline import Pipeline
from tests.e2e.processes import ProcessContainer, eventually

KIND = "users.register"
MARKS = {
    "name": "Qzxname",
    "username": "qzxuser",
    "email": "qzxmail",
    "external_id": "qzxexternal",
    "password": "qzxpassword",
    "password_hash": "qzxhash",
    "field": "qzxfield",
    "value": "qzxvalue",
}
"""A mark for each sort of what is of people."""
HASH = f"$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21l${MARKS['password_hash']:A<43}"

BREAKS = """
ALTER TABLE user_account ADD CONSTRAINT nobody CHECK (username NOT LIKE '%broken')
"""
"""Has PostgreSQL refuse a person, and quote the row."""


@pytest.fixture(scope="module")
def settings() -> Mapping[str, object]:
    """Say all that can be said."""
    return {"log_level": "DEBUG"}


@pytest.fixture(scope="module")
def postgres_log(database_url: str) -> Callable[[], str]:
    """Read what this session's PostgreSQL has logged since the module began."""
    [log] = [
        embedded.postgres.log
        for folder in (ROOT / ".tallyman" / "tests").iterdir()
        if (embedded := EmbeddedServers(folder)).postgres.running()
        and f":{embedded.postgres.port}/" in database_url
    ]
    before = log.stat().st_size
    return lambda: log.read_bytes()[before:].decode(errors="replace")


@pytest.fixture(scope="module")
def beat(folder: Path, environment: Mapping[str, str]) -> Iterator[ProcessContainer]:
    """Run beat while a module lasts."""
    container = ProcessContainer(
        "beat",
        lambda _: [sys.executable, "-m", "worker.command.main", "beat"],
        folder=folder,
        environment=environment,
        answers=lambda _: "slot_submitted" in container.logs(),
    )
    container.start()
    assert container.ready()
    yield container
    container.teardown()


@pytest.fixture(scope="module")
def heard(broker_url: str, worker: ProcessContainer) -> Iterator[list[dict[str, Any]]]:
    """Collect Celery's events while a module lasts, from when one is heard."""
    events: list[dict[str, Any]] = []
    with (
        Celery(broker=broker_url, set_as_current=False) as listener,
        listener.connection_for_read() as connection,
    ):
        receiver = listener.events.Receiver(connection, handlers={"*": events.append})
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False})
        thread.start()
        try:
            eventually(lambda: events, what="the worker is heard")
            yield events
        finally:
            receiver.should_stop = True
            thread.join()


_own = count(1)


def person(**fields: object) -> dict[str, Any]:
    """Build the payload of somebody, in whom every field is marked."""
    own = next(_own)
    return {
        "username": f"{MARKS['username']}{own}",
        "email": f"{MARKS['email']}{own}@example.org",
        "name": f"{MARKS['name']} {own}",
        "external_id": f"{MARKS['external_id']}{own}",
        "password_hash": HASH,
        **fields,
    }


Send = Callable[..., str]


class People:
    """Hands over jobs of people by one door or the other, and waits for how they end."""

    def __init__(self, pipeline: Pipeline, broker: redis.Redis, engine: Engine) -> None:
        self._pipeline = pipeline
        self._broker = broker
        self._parked = ParkedMessages(engine)
        self._number = count(1)

    def by_message(self, payload: Mapping[str, Any], state: JobState, kind: str = KIND) -> str:
        job_id = f"message-{next(self._number)}"
        self._pipeline.app.send_task(kind, kwargs=dict(payload), task_id=job_id)
        self._pipeline.until(job_id, state)
        return job_id

    def by_submission(self, payload: Mapping[str, Any], state: JobState, kind: str = KIND) -> str:
        job_id = f"submission-{next(self._number)}"
        self._pipeline.producer.submit(kind, payload, job_id=job_id)
        self._pipeline.until(job_id, state)
        return job_id

    def is_parked(self, raw: bytes) -> None:
        before = len(self._parked.newest(limit=1_000))
        self._broker.lpush("users", raw)
        eventually(
            lambda: len(self._parked.newest(limit=1_000)) > before, what="a message is parked"
        )

    def is_tried_to_death(self, job_id: str) -> None:
        self._pipeline.is_tried_to_death(job_id)


@pytest.fixture(scope="module")
def had() -> list[str]:
    """Give where the ids of the jobs go that were had."""
    return []


@pytest.fixture
def jobs(  # noqa: PLR0917  fixtures are given by name
    pipeline: Pipeline,
    broker_url: str,
    engine: Engine,
    flower: FlowerSite,
    beat: ProcessContainer,
    heard: list[dict[str, Any]],
    postgres_log: Callable[[], str],
    had: list[str],
) -> list[str]:
    """Have had jobs of every sort and ending, through both doors; return their ids."""
    if had:
        return had
    pipeline.database.execute(BREAKS)
    mark, value = f"{MARKS['field']}@example.org", MARKS["value"]
    with redis.Redis.from_url(broker_url) as broker:
        people = People(pipeline, broker, engine)
        for send in (people.by_message, people.by_submission):
            had.extend(_had_by(send, people))
        had.extend(
            people.by_message(refused, JobState.REJECTED)
            for refused in (
                person(**{mark: value}),
                person(username={mark: value}),
                person(username=[value], email=None),
                person(password_hash=MARKS["password"]),
                person(email=f"{MARKS['email']} at example"),
                person(name=f"{MARKS['name']}\0"),
                person(name="\ud800" + MARKS["name"]),
                person(returning=value, **{f"{MARKS['name']}\n{n}": 1 for n in range(9)}),
                person(name=MARKS["name"] * 50_000),
                {mark: value},
            )
        )
        # A person among the orders.
        had.append(
            people.by_message(person(order_id="1"), JobState.REJECTED, "allocation.allocate_order")
        )
        for raw in parked_messages(mark, value):
            people.is_parked(raw)
    return had


def _had_by(send: Send, people: People) -> Iterator[str]:
    """Have jobs of every ending by one door."""
    ada = person()
    ada_id = send(ada, JobState.SUCCEEDED)
    yield ada_id
    yield send(person(email=ada["email"]), JobState.REJECTED)
    renamed = {"user_id": ada_id, "name": f"{MARKS['name']} II"}
    yield send(renamed, JobState.SUCCEEDED, "users.update")
    broken = {"user_id": ada_id, "username": f"{MARKS['username']}broken"}
    dead = send(broken, JobState.RETRY, "users.update")
    people.is_tried_to_death(dead)
    yield dead
    yield send(person(username=f"{MARKS['username']}{next(_own)}broken"), JobState.RETRY)
    yield send({"user_id": ada_id}, JobState.SUCCEEDED, "users.erase")


def parked_messages(mark: str, value: str) -> Iterator[bytes]:
    """Return messages that are no job and hold what is of people, each in another place."""
    yield f"garbage of {mark} {value} \xff".encode("latin-1")
    yield json.dumps({mark: value}).encode()
    about: dict[str, Any] = {"headers": {"task": KIND}, "kwargs": person()}
    yield json.dumps(envelope(**{**about, "headers": {"task": mark}})).encode()
    yield json.dumps(envelope(**{**about, "headers": {"task": "users.from_tomorrow"}})).encode()
    yield json.dumps(envelope(**about, content_type=mark)).encode()
    yield json.dumps(envelope(**{**about, "kwargs": {}}, args=[mark, value])).encode()
    yield json.dumps(envelope(**{**about, "kwargs": {}}, args=[[mark, 1]])).encode()
    yield json.dumps(
        envelope(**{**about, "headers": {"task": KIND, "eta": mark, "shadow": value}})
    ).encode()
    yield json.dumps(
        envelope(**about, embed={**NO_CALLBACKS, "errbacks": [{"task": mark}]})
    ).encode()
    yield json.dumps(envelope(body=f"[[], {{{mark!r}}}".encode(), headers={"task": KIND})).encode()
    yield json.dumps(envelope(**{**about, "headers": {"task": KIND, "compression": mark}})).encode()


def leaks(text: str) -> dict[str, str]:
    """Return what is of people in a text, each with what stands around it."""
    found = {name: text.lower().find(mark.lower()) for name, mark in MARKS.items()}
    return {
        name: text[max(0, place - 150) : place + 60] for name, place in found.items() if place >= 0
    }


class TestWhatIsOfPeople:
    def test_is_not_in_the_worker_log(self, jobs: list[str], celery_setup: CeleryTestSetup) -> None:
        log = celery_setup.worker.logs()
        assert "[debug" in log
        assert leaks(log) == {}

    def test_is_not_in_the_logs_of_the_other_processes(
        self,
        jobs: list[str],
        relay: ProcessContainer,
        beat: ProcessContainer,
        flower: FlowerSite,
    ) -> None:
        for process in (relay, beat, flower):
            assert process.logs()
            assert leaks(process.logs()) == {}

    def test_is_not_in_the_log_of_postgresql(
        self, jobs: list[str], postgres_log: Callable[[], str]
    ) -> None:
        assert "violates check constraint" in postgres_log()
        assert leaks(postgres_log()) == {}

    def test_is_not_in_what_celery_tells_of_its_tasks(
        self, jobs: list[str], heard: list[dict[str, Any]]
    ) -> None:
        expected = {"task-received", "task-succeeded", "task-failed", "task-retried"}
        eventually(
            lambda: expected <= {event["type"] for event in heard},
            what="it is heard how jobs end",
        )
        assert leaks(json.dumps(heard, default=str, ensure_ascii=False)) == {}

    def test_is_not_in_flower(self, jobs: list[str], flower: FlowerSite) -> None:
        sent = [job_id for job_id in jobs if job_id.startswith("message")]

        def tasks() -> str:
            text = flower.get("/api/tasks?limit=1000").text
            return text if all(job_id in text for job_id in sent) else ""

        assert leaks(eventually(tasks, what="Flower has heard of all")) == {}
        for job_id in jobs:
            assert leaks(flower.get(f"/api/task/info/{job_id}").text) == {}
            assert leaks(flower.get(f"/task/{job_id}").text) == {}

    def test_is_not_in_the_log_of_flower_that_took_the_job(
        self, flower: FlowerSite, pipeline: Pipeline
    ) -> None:
        for way in ("apply", "async-apply", "send-task"):
            taken = flower.post(f"/api/task/{way}/{KIND}", {"kwargs": person()})
            assert taken.status == 200, taken
            pipeline.until(taken.data["task-id"], JobState.SUCCEEDED)
        flower.post(f"/api/task/async-apply/{KIND}", {"kwargs": person(), "args": MARKS["name"]})
        assert "[debug" in flower.logs()
        assert leaks(flower.logs()) == {}

    def test_is_not_in_redis_once_the_jobs_are_done(self, jobs: list[str], broker_url: str) -> None:
        with redis.Redis.from_url(broker_url) as broker:

            def keys_at_rest() -> list[str]:
                # Messages wait in lists, and are noted as taken until Redis is told that they
                # are done, which is later than their jobs are. Beat goes on to send some.
                keys = [key.decode() for key in broker.scan_iter()]
                is_at_rest = not any(
                    key == "unacked" or broker.type(key) == b"list" for key in keys
                )
                return keys if is_at_rest else []

            keys = eventually(keys_at_rest, what="no message waits or is in hand")
            assert sum(key.startswith("celery-task-meta-") for key in keys) > len(jobs) // 2
            for key in keys:
                assert leaks(key) == {}
                assert leaks(_shown(broker, key)) == {}

    def test_is_not_in_the_events(self, jobs: list[str], pipeline: Pipeline) -> None:
        rows = pipeline.database.execute("SELECT to_jsonb(outbox)::text FROM outbox").fetchall()
        assert any("UserErased" in text for (text,) in rows)
        for (text,) in rows:
            assert leaks(text) == {}

    def test_is_not_in_what_the_command_tells_unasked(
        self, jobs: list[str], environment: Mapping[str, str], folder: Path, engine: Engine
    ) -> None:
        parked = [str(message.id) for message in ParkedMessages(engine).newest(limit=1_000)]
        for arguments in (
            ("jobs", "list"),
            ("jobs", "list", "--json"),
            *(("jobs", "show", job_id, "--traceback") for job_id in jobs),
            ("parked", "list"),
            ("parked", "list", "--json"),
            *(("parked", "show", message) for message in parked[:3]),
        ):
            told = subprocess.run(
                [sys.executable, "-m", "worker.command.main", *arguments],
                env=environment,
                cwd=folder,
                capture_output=True,
                text=True,
                check=True,
            )
            assert leaks(told.stdout + told.stderr) == {}, arguments

    def test_is_not_in_what_the_ledger_says_of_failures(
        self, jobs: list[str], pipeline: Pipeline
    ) -> None:
        for table in ("job_failure", "parked_message"):
            rows = pipeline.database.execute(
                f"SELECT (to_jsonb({table}) - 'content')::text FROM {table}"
            ).fetchall()
            assert rows
            for (text,) in rows:
                assert leaks(text) == {}


def _shown(broker: redis.Redis, key: str) -> str:
    match broker.type(key):
        case b"string":
            return repr(broker.get(key))
        case b"hash":
            return repr(broker.hgetall(key))
        case b"stream":
            return repr(broker.xrange(key))
        case b"set":
            return repr(broker.smembers(key))
        case _:
            return repr(broker.zrange(key, 0, -1))
