"""The composition root: what a process is made of."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from celery import Celery

from adapters.payloads import Payloads
from adapters.postgres.engine import create
from adapters.postgres.parked import PostgresParked
from adapters.postgres.persistence import Persistently
from adapters.postgres.queue_settings import PostgresQueueSettings
from adapters.postgres.unit_of_work import BeginPostgresWork
from adapters.postgres.watch import ServerWatch
from adapters.result_backend import RedisMirror
from adapters.sources.described import DescribedSources
from domain.errors import DomainError
from domain.jobs.holding import Holder
from domain.jobs.model import Job
from domain.jobs.retries import Backoff
from domain.kinds import KINDS
from worker.addresses import Addresses
from worker.logs import LoggedExecutor
from worker.parking import Parking
from worker.queue_gate import QueueGate
from worker.settings import Settings
from worker.tracing.untraced import Untraced


class NoMirror:
    """Copies nothing: there is no Redis, and the ledger answers anyway."""

    def copy(self, *jobs: Job) -> None:
        """Do nothing."""

    def refuse(self, job_id: str, error: DomainError) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRuntime:
    """What a worker process runs jobs with."""

    executor: LoggedExecutor
    holder: Holder
    gate: QueueGate
    mirror: RedisMirror | NoMirror
    traces: Untraced


def build_runtime(
    app: Celery,
    settings: Settings,
    addresses: Addresses,
    *,
    traces: Untraced,
    reached: Callable[[str], None] = lambda _: None,
) -> WorkerRuntime:
    """Build what runs jobs; call it after the fork, for connections do not survive one."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    engine = create(
        addresses.database_url, application=f"tallyman {worker}", by_index=True, plans_once=True
    )
    backoff = Backoff(
        base_seconds=settings.retry_base_seconds, cap_seconds=settings.retry_cap_seconds
    )
    decode = Payloads(KINDS).decode
    begin_work = BeginPostgresWork(
        engine=engine,
        backoff=backoff,
        reached=reached,
        place=traces.place,
        decode=decode,
        sources=DescribedSources(descriptions=settings.imports_folder),
    )
    persistently = Persistently()
    return WorkerRuntime(
        executor=LoggedExecutor(
            kinds=KINDS,
            begin_work=begin_work,
            decode=decode,
            persistently=persistently,
            worker=worker,
            reached=reached,
            ran=traces.ran,
        ),
        holder=Holder(kinds=KINDS, begin_work=begin_work, decode=decode, persistently=persistently),
        gate=QueueGate(read=PostgresQueueSettings(engine).read, persistently=persistently),
        mirror=_build_mirror(app, settings, addresses),
        traces=traces,
    )


def build_watch(addresses: Addresses) -> ServerWatch:
    """Build what a worker's main process watches PostgreSQL with."""
    return ServerWatch(
        addresses.database_url,
        application=f"tallyman watch {socket.gethostname()}:{os.getpid()}",
    )


def build_parking(app: Celery, settings: Settings, addresses: Addresses) -> Parking:
    """Build what a worker's main process parks messages with; it connects at its first message."""
    engine = create(
        addresses.database_url,
        application=f"tallyman parking {socket.gethostname()}:{os.getpid()}",
        lock_timeout_ms=2_000,
        statement_timeout_ms=10_000,
    )
    return Parking(
        store=PostgresParked(engine, most_bytes=settings.parked_megabytes << 20),
        answer=_build_mirror(app, settings, addresses).refuse,
    )


def _build_mirror(app: Celery, settings: Settings, addresses: Addresses) -> RedisMirror | NoMirror:
    if addresses.mirror_url is None:
        return NoMirror()
    return RedisMirror(app, addresses.mirror_url, expires_seconds=settings.result_expires_seconds)
