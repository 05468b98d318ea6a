"""Passwords: in no log, output, page, answer or list of processes, whatever goes wrong."""

import json
import re
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from celery import Celery
from pydantic import SecretStr

from adapters.embedded.servers import Addresses
from adapters.postgres.access import Role
from tests.conftest import wait_until
from tests.integration.processes.conftest import Installation, Running
from tests.roles import PASSWORD, Site, engine
from worker.addresses import Addresses as WorkerAddresses
from worker.app import build_app
from worker.settings import Settings

PATIENCE = 60.0
OF_FLOWER = "a-password-of-flower"
PAGES = ("/", "/workers", "/worker/NAME", "/broker", "/tasks", "/metrics")
ANSWERS = ("/api/workers?refresh=1", "/api/queues/length", "/api/tasks", "/healthcheck")
PROGRAMS = ("worker", "relay", "beat", "flower")


@pytest.fixture
def secrets(servers: Addresses) -> list[str]:
    of_redis = urlsplit(servers.broker_url).password
    assert of_redis
    return [PASSWORD, of_redis, OF_FLOWER, b64encode(f"me:{OF_FLOWER}".encode()).decode()]


@pytest.fixture
def installation(site: Site, servers: Addresses, tmp_path: Path) -> Iterator[Installation]:
    with redis.Redis.from_url(servers.broker_url) as client:
        client.flushall()
    made = Installation(
        folder=tmp_path,
        variables={
            "TALLYMAN_DATABASE_URL": site[Role.WORKER],
            "TALLYMAN_BROKER_URL": servers.broker_url,
            "TALLYMAN_FLOWER_BASIC_AUTH": f"me:{OF_FLOWER}",
            "TALLYMAN_LOG_LEVEL": "DEBUG",
        },
    )
    yield made
    made.remove()


def found_in(told: str, secrets: list[str]) -> list[str]:
    """Return the lines in which a secret stands."""
    return [line[:300] for line in told.splitlines() if any(each in line for each in secrets)]


class TestARunningSystem:
    def test_shows_no_password(
        self, installation: Installation, servers: Addresses, secrets: list[str]
    ) -> None:
        programs = [installation.start(name) for name in PROGRAMS]
        worker, _, _, flower = programs
        worker.wait_for(" ready.")
        flower.wait_for("flower_started")
        told = "".join(asked(servers)) + "".join(shown(flower))
        assert "redis://" in told, "it is the right question: addresses are there, and masked"
        told += listed(programs)
        for command in (("health",), ("health", "--json"), ("queues",), ("migrate", "current")):
            ran = installation.run(*command)
            told += ran.stdout + ran.stderr
        for program in programs:
            program.process.terminate()
        for program in programs:
            program.ends()
            told += program.printed + program.complaints
        assert found_in(told, secrets) == []


class TestASystemWhoseServersAreAway:
    def test_shows_no_password(self, installation: Installation, secrets: list[str]) -> None:
        for name in ("TALLYMAN_DATABASE_URL", "TALLYMAN_BROKER_URL"):
            url = urlsplit(installation.variables[name])
            nowhere = f"{url.username}:{url.password}@127.0.0.1:1"
            installation.variables = {
                **installation.variables,
                name: url._replace(netloc=nowhere).geturl(),
            }
        told = ""
        for command in (
            ("jobs", "list"),
            ("submit", "allocation.cancel_order", '{"order_id": "o"}'),
            ("health",),
            ("migrate", "upgrade"),
            ("migrate", "roles"),
            ("parked", "requeue", "1"),
        ):
            ran = installation.run(*command)
            assert ran.returncode in (1, 4), ran
            told += ran.stdout + ran.stderr
        programs = [installation.start(name) for name in PROGRAMS]
        for program, words in zip(
            programs, ("Cannot connect", "postgres_away", "beat", "flower_started"), strict=True
        ):
            program.wait_for(words)
        for program in programs:
            program.process.terminate()
        for program in programs:
            program.ends()
            told += program.printed + program.complaints
        assert found_in(told, secrets) == []


class TestObjects:
    def test_do_not_tell_passwords(self, servers: Addresses) -> None:
        settings = Settings(
            database_url=SecretStr(servers.database_url),
            broker_url=SecretStr(servers.broker_url),
        )
        addresses = WorkerAddresses(
            database_url=servers.database_url, broker_url=servers.broker_url, mirror_url=None
        )
        app = build_app(settings, addresses)
        with engine(servers.database_url) as opened:
            told = repr([settings, addresses, servers, opened, app, app.backend])
            told += str(settings) + app.bugreport() + app.conf.humanize() + app.backend.as_uri()
            told += str(app.connection()) + settings.model_dump_json()
        app.close()
        passwords = [
            urlsplit(url).password or "" for url in (servers.database_url, servers.broker_url)
        ]
        assert found_in(told, passwords) == []


def listed(programs: list[Running]) -> str:
    """Return what `ps` shows of programs and of what they have started."""
    lines = []
    for program in programs:
        main = psutil.Process(program.process.pid)
        for process in (main, *main.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                lines.append("\n".join(process.cmdline()))
    assert any("relay" in line for line in lines)
    return "\n".join(lines)


def asked(servers: Addresses) -> Iterator[str]:
    """Yield what workers tell whoever may send them commands."""
    with Celery(broker=servers.broker_url, set_as_current=False) as stranger:
        inspect = stranger.control.inspect(timeout=PATIENCE, limit=1)
        for question in ("conf", "report", "stats", "registered", "active_queues", "clock"):
            answer = getattr(inspect, question)()
            assert answer, question
            yield json.dumps(answer, default=str)


def shown(flower: Running) -> Iterator[str]:
    """Yield Flower's pages."""
    [address] = re.findall(r"flower_started\s+url=(\S+)", flower.complaints)
    login = {"Authorization": f"Basic {b64encode(f'me:{OF_FLOWER}'.encode()).decode()}"}

    def known() -> list[str]:
        return list(json.loads(_read(f"{address}/api/workers?refresh=1", login)))

    [name] = wait_until(known, seconds=PATIENCE)
    for page in (*ANSWERS, *(page.replace("NAME", name) for page in PAGES)):
        yield wait_until(partial(_page, f"{address}{page}", login), seconds=PATIENCE)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        _read(f"{address}/workers", {})


def _page(url: str, headers: dict[str, str]) -> str:
    """Read a page; nothing where it is not there: a worker has a second to tell of itself."""
    try:
        return _read(url, headers)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
        return ""


def _read(url: str, headers: dict[str, str]) -> str:
    question = urllib.request.Request(url, headers=headers)  # noqa: S310  its address is Flower's
    with urllib.request.urlopen(question, timeout=PATIENCE) as answer:  # noqa: S310  likewise
        text: str = answer.read().decode()
    return text
