"""Playing a load with something switched off, and what is noticed of it."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis

from adapters.postgres import schema
from adapters.postgres.engine import create
from tests.chaos import audit_trail
from tests.chaos.checker import check
from tests.chaos.evidence import plain
from tests.chaos.mutations.catalogue import BLAMED, LOADS, MUTATIONS, RESTARTED, Load, Mutation
from tests.chaos.mutations.children import DEADLINE_SECONDS, as_child
from tests.chaos.mutations.scene import Scene
from tests.chaos.mutations.switches import nothing
from tests.databases import drop
from tests.e2e.processes import eventually


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was noticed of a mutation."""

    name: str
    load: str
    noticed: Sequence[str]
    seconds: float


class Server:
    """Servers, and a fresh database for each scene."""

    def __init__(self, folder: Path, *, url: str, broker_url: str) -> None:
        self._folder = folder
        self._url = url
        self._broker_url = broker_url
        self._scenes = 0

    @contextmanager
    def scene(self) -> Iterator[Scene]:
        self._scenes += 1
        name = f"mutation_{os.getpid()}_{self._scenes}"
        with psycopg.connect(plain(self._url), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        url = urlsplit(self._url)._replace(path=f"/{name}").geturl()
        engine = create(url)
        schema.upgrade(engine)
        engine.dispose()
        audit_trail.lay(url)
        with redis.Redis.from_url(self._broker_url) as client:
            client.flushall()
        try:
            yield Scene(url=url, broker_url=self._broker_url, folder=self._folder / name)
        finally:
            with psycopg.connect(plain(self._url), autocommit=True) as connection:
                drop(connection, name)


def play(server: Server) -> tuple[list[Result], list[Result]]:
    """Run all loads with nothing switched off, then all mutations."""
    return (
        [control(server, load) for load in LOADS],
        [_run(server, mutation) for mutation in MUTATIONS],
    )


def control(server: Server, load: Load) -> Result:
    """Run a load with nothing switched off."""
    return _run(server, Mutation(name="nothing", load=load, switch_off=nothing))


def _run(server: Server, mutation: Mutation) -> Result:
    began = time.monotonic()
    with server.scene() as scene:
        child = os.fork()
        if not child:
            as_child(lambda: _play(scene, mutation))
        _, status = os.waitpid(child, 0)
        noticed = [] if status == 0 else [f"the load ended with {status}"]
        noticed += _verdict(scene, mutation)
    return Result(
        name=mutation.name,
        load=mutation.load.__name__.replace("_", " "),
        noticed=noticed,
        seconds=time.monotonic() - began,
    )


def _play(scene: Scene, mutation: Mutation) -> None:
    mutation.switch_off(scene)
    mutation.load(scene)
    with scene.stand("end") as stand:
        stand.relay_events()
        began = time.monotonic()
        if mutation.load in RESTARTED:
            stand.finish()
        stand.history.drained(seconds=time.monotonic() - began, allowed=DEADLINE_SECONDS)


def _others(connection: "psycopg.Connection[tuple[object, ...]]") -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    ).fetchall()


def _verdict(scene: Scene, mutation: Mutation) -> list[str]:
    problems = check(scene.folder, scene.url, stream_url=scene.broker_url).problems
    blamed = BLAMED.get(mutation.load)
    noticed = [
        problem
        for problem in problems
        # That these die is as it should be.
        if not (blamed and problem.startswith("dead: ") and f"'{blamed}'" in problem)
    ]
    with psycopg.connect(plain(scene.url), autocommit=True) as connection:
        # What a session has counted is on record when it has ended, which is not waited for.
        eventually(lambda: not _others(connection), what="all sessions have ended")
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    if row and row[0]:
        noticed.append(f"deadlocks: PostgreSQL had to break {row[0]}")
    return noticed
