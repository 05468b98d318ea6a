"""Servers and processes of a measurement, on ports and in folders of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from celery import Celery

from adapters.postgres import schema
from adapters.postgres.engine import create
from tests.databases import drop

DEADLINE_SECONDS = 300


def wait_until(
    condition: Callable[[], object], *, seconds: float = DEADLINE_SECONDS, every: float = 0.01
) -> None:
    """Wait until `condition` holds, looking `every` so many seconds.

    Raises:
        TimeoutError: It did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s in vain")
        time.sleep(every)


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """Give the URL of a fresh, migrated database of this server."""
    name = f"bench_{uuid4().hex}"
    with psycopg.connect(plain(server_url), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = server_url.rsplit("/", 1)[0] + f"/{name}"
    engine = create(url)
    schema.upgrade(engine)
    engine.dispose()
    try:
        yield url
    finally:
        with psycopg.connect(plain(server_url), autocommit=True) as connection:
            drop(connection, name)


def plain(url: str) -> str:
    """Return a URL as psycopg alone takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://")


@contextmanager
def process(
    *arguments: str, environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python module in a process group of its own while the context lasts."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@contextmanager
def celery_worker(
    app: Celery, name: str, *, processes: int, environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a prefork worker that consumes nothing until it is told to."""
    with process(
        "celery",
        "-A",
        name,
        "worker",
        "--queues=idle",
        f"--concurrency={processes}",
        "--loglevel=WARNING",
        "--without-gossip",
        "--without-mingle",
        environment=environment,
        log=log,
    ) as running:
        wait_until(lambda: app.control.ping(timeout=0.5), seconds=60)
        yield running
