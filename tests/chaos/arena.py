"""Where it all happens: servers, proxies before them, and Tallyman's processes, supervised."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from adapters.embedded.postgres import PostgresServer
from adapters.embedded.valkey import ValkeyServer
from adapters.postgres import schema
from adapters.postgres.engine import create
from tests.chaos import audit_trail
from tests.chaos.evidence import plain
from tests.chaos.proxy import Proxy
from tests.chaos.supervision import Supervision

ROOT = Path(__file__).parents[2]
WORKERS = ("worker-1", "worker-2")
RELAYS = ("relay-1", "relay-2")
CHILDREN = 2
"""Of each worker."""
ANSWER_SECONDS = 60
"""Whoever breaks something, or looks on, waits so long for a server that is busy with much else."""
POSTGRES_OPTIONS: Mapping[str, str] = {
    # So few that a fault can take them all.
    "max_connections": "70",
    # What is dirty is written often, so that recovery after a crash is short.
    "checkpoint_timeout": "30s",
    "max_wal_size": "256MB",
    "log_checkpoints": "off",
}

SETTINGS: Mapping[str, object] = {
    "concurrency": CHILDREN,
    "soft_time_limit_seconds": 20,
    "time_limit_seconds": 25,
    "visibility_timeout_seconds": 30,
    "retry_base_seconds": 0.2,
    "retry_cap_seconds": 2,
    "relay_poll_seconds": 0.2,
    "event_stream_length": 10_000_000,
    "log_format": "json",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """What faults break and what load runs on; all addresses for Tallyman lead through proxies."""

    folder: Path
    """Evidence: logs and histories."""
    postgres: PostgresServer
    valkey: ValkeyServer
    to_postgres: Proxy
    to_valkey: Proxy
    programs: Supervision
    disk: Path | None
    """Where PostgreSQL keeps its data, if that disk is small and ours to fill."""

    @property
    def database_url(self) -> str:
        """Return the address that Tallyman and its clients use."""
        return _moved(self.postgres.url(), self.to_postgres.port)

    @property
    def broker_url(self) -> str:
        return _moved(self.valkey.url(), self.to_valkey.port)

    @property
    def history(self) -> Path:
        return self.folder / "history"

    def administer(self) -> "psycopg.Connection[tuple[object, ...]]":
        """Connect to the database past the proxy, as its superuser."""
        return psycopg.connect(
            plain(self.postgres.superuser_url("tallyman")),
            autocommit=True,
            connect_timeout=ANSWER_SECONDS,
        )

    def valkey_client(self) -> "redis.Redis":
        """Connect to Valkey past the proxy."""
        return redis.Redis.from_url(
            self.valkey.url(),
            decode_responses=True,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    def heal(self) -> None:
        """Start what does not run."""
        self.postgres.start(POSTGRES_OPTIONS)
        self.valkey.start()


@contextmanager
def arena(folder: Path, *, disk_size: str | None) -> Iterator[Arena]:
    """Set everything up, and take it down again; `folder` keeps logs and histories.

    With a `disk_size`, PostgreSQL's data lie on a file system of that size in memory where one may
    be mounted, so that it can be filled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        # Two histories in one folder would be taken for one, and nothing would be as told.
        raise FileExistsError(f"{folder} holds something already: choose an empty folder")
    with ExitStack() as stack:
        # Below /var/tmp, where the account that PostgreSQL runs as under root can reach it.
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tallyman-chaos-", dir=_TMP))
        )
        scratch.chmod(0o755)
        disk = stack.enter_context(_disk(scratch / "disk", disk_size)) if disk_size else None
        postgres = PostgresServer((disk or scratch) / "postgres")
        valkey = ValkeyServer(scratch / "valkey")
        stack.callback(postgres.remove_data)
        stack.callback(valkey.remove_data)
        postgres.start(POSTGRES_OPTIONS)
        valkey.start()
        _prepare(postgres)
        to_postgres = stack.enter_context(Proxy(lambda: postgres.port, speaks_postgres=True))
        to_valkey = stack.enter_context(Proxy(lambda: valkey.port))
        programs = Supervision(
            folder=folder,
            environment=_environment(
                scratch,
                database_url=_moved(postgres.url(), to_postgres.port),
                broker_url=_moved(valkey.url(), to_valkey.port),
            ),
            programs={
                name: ("tests.chaos.short_leases", name.partition("-")[0])
                for name in (*WORKERS, *RELAYS, "beat")
            },
        )
        yield Arena(
            folder=folder,
            postgres=postgres,
            valkey=valkey,
            to_postgres=to_postgres,
            to_valkey=to_valkey,
            programs=stack.enter_context(programs),
            disk=disk,
        )


_TMP = "/var/tmp"  # noqa: S108  a folder of our own is made there


@contextmanager
def _disk(place: Path, size: str) -> Iterator[Path | None]:
    """Mount a small file system, where that is permitted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tallyman-chaos", str(place)]
    try:
        mounted = os.geteuid() == 0 and subprocess.run(mount, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def _prepare(postgres: PostgresServer) -> None:
    engine = create(postgres.url())
    schema.upgrade(engine)
    engine.dispose()
    audit_trail.lay(postgres.url())


def _environment(scratch: Path, **addresses: str) -> dict[str, str]:
    settings = {**SETTINGS, **addresses, "data_folder": scratch / "data"}
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TALLYMAN_", "CELERY_"))
    }
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        # A killed worker leaves its temporary files.
        "TMPDIR": str(scratch),
        **{f"TALLYMAN_{name.upper()}": str(value) for name, value in settings.items()},
    }


def _moved(url: str, port: int) -> str:
    parts = urlsplit(url)
    credentials, _, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{credentials}@127.0.0.1:{port}").geturl()
