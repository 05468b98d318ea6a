"""The composition root: what a process is made of."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from celery import Celery

from adapters.payloads import Payloads
from adapters.postgres.engine import create
from adapters.postgres.persistence import Persistently
from adapters.postgres.unit_of_work import BeginPostgresWork
from adapters.result_backend import RedisMirror
from adapters.sources.described import DescribedSources
from domain.errors import DomainError
from domain.jobs.model import Job
from domain.jobs.retries import Backoff
from domain.kinds import KINDS
from worker.addresses import Addresses
from worker.logs import LoggedExecutor
from worker.settings import Settings


class NoMirror:
    """Copies nothing: there is no Redis, and the ledger answers anyway."""

    def copy(self, job: Job) -> None:
        """Do nothing."""

    def refuse(self, job_id: str, error: DomainError) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRuntime:
    """What a worker process runs jobs with."""

    executor: LoggedExecutor
    mirror: RedisMirror | NoMirror


def build_runtime(
    app: Celery,
    settings: Settings,
    addresses: Addresses,
    *,
    reached: Callable[[str], None] = lambda _: None,
) -> WorkerRuntime:
    """Build what runs jobs; call it after the fork, for connections do not survive one."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    engine = create(addresses.database_url, application=f"tallyman {worker}", by_index=True)
    decode = Payloads(KINDS).decode
    backoff = Backoff(
        base_seconds=settings.retry_base_seconds, cap_seconds=settings.retry_cap_seconds
    )
    return WorkerRuntime(
        executor=LoggedExecutor(
            kinds=KINDS,
            begin_work=BeginPostgresWork(
                engine=engine,
                backoff=backoff,
                reached=reached,
                decode=decode,
                sources=DescribedSources(descriptions=settings.imports_folder),
            ),
            decode=decode,
            persistently=Persistently(),
            worker=worker,
            reached=reached,
        ),
        mirror=(
            RedisMirror(app, addresses.mirror_url, expires_seconds=settings.result_expires_seconds)
            if addresses.mirror_url
            else NoMirror()
        ),
    )
