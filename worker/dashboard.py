"""Flower's application, where it has to know that the ledger decides what becomes of a job."""

import re
from base64 import b64decode
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from celery.events.state import Task
from flower.api.control import TaskRevoke
from flower.app import Flower
from flower.utils import prepend_url
from flower.utils.blocking import BlockingOperationRunner
from flower.views.monitor import Metrics
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest
from tornado.ioloop import PeriodicCallback
from tornado.web import HTTPError, OutputTransform, authenticated

from domain.errors import DomainError, Unavailable
from worker import http_door

LOOK_SECONDS = 2
"""How often it looks for workers that it has not asked what they are."""
MOST_WAITING = 32
"""Requests at once that may wait for the broker, PostgreSQL or a job; more stand in line."""
SUCCESS = "SUCCESS"

Cancel = Callable[[str], DomainError | None]
"""Withdraws a job; returns why not, where it may not be."""


class Dashboard(Flower):
    """Flower that withdraws jobs in the ledger, and knows workers which start after it."""

    max_workers = 2 * MOST_WAITING

    def __init__(self, *, cancel: Cancel, **parts: Any) -> None:
        super().__init__(**parts)
        # Flower lets five wait at once, with all others behind them.
        self.blocking_runner = BlockingOperationRunner(self.executor, max_concurrency=MOST_WAITING)
        self.cancel = cancel
        handlers = [
            (self.place("/metrics"), GuardedMetrics),
            (self.place("/api/task/revoke/") + "(.+)", RevokeInTheLedger),
            *((self.place(path) + "(.+)", door) for path, door in http_door.HANDLERS.items()),
        ]
        # These come before Flower's own.
        self.add_handlers(r".*", handlers)
        if self.options.basic_auth:
            self.add_transform(Challenge)
        self._looking = PeriodicCallback(self._look_for_workers, LOOK_SECONDS * 1_000)

    def place(self, path: str) -> str:
        prefix = self.options.url_prefix
        return re.escape(prepend_url(path, prefix) if prefix else path)

    def find_handler(self, request: HTTPServerRequest, **options: Any) -> HTTPMessageDelegate:
        # Flower compares passwords in a way that fails for such as no setting can have.
        if not _is_ascii(request.headers.get("Authorization", "")):
            del request.headers["Authorization"]
        found: HTTPMessageDelegate = super().find_handler(request, **options)
        return found

    def start(self) -> None:
        self._looking.start()
        super().start()

    def stop(self) -> None:
        self._looking.stop()
        super().stop()

    def _look_for_workers(self) -> None:
        seen = self.events.state.workers
        for gone in [name for name in self.workers if name in seen and not seen[name].alive]:
            del self.workers[gone]
        if any(worker.alive and name not in self.workers for name, worker in seen.items()):
            self.update_workers()


class Challenge(OutputTransform):
    """Asks for the password wherever it is missing, which Flower leaves out below `/api`.

    A browser that was shown the page of a job first has not sent the password there yet.
    """

    def transform_first_chunk(
        self,
        status_code: int,
        headers: HTTPHeaders,
        chunk: bytes,
        finishing: bool,  # noqa: ARG002, FBT001  Tornado's signature
    ) -> tuple[int, HTTPHeaders, bytes]:
        if status_code == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Basic realm="flower"'
        return status_code, headers, chunk


def _is_ascii(authorization: str) -> bool:
    _, _, credentials = authorization.partition(" ")
    try:
        return b64decode(credentials).isascii()
    except ValueError:
        # Flower refuses what is not even in this form.
        return True


class GuardedMetrics(Metrics):
    """Flower's metrics, which name workers and job kinds, for those who have the password."""

    @authenticated
    async def get(self) -> None:
        await super().get()


class RevokeInTheLedger(TaskRevoke):
    """Has Flower's button `Revoke` do what `tallyman jobs cancel` does.

    Celery's own command makes workers drop messages of an id, while its job stays due. To
    terminate is left to Celery: it ends a process, and the job runs again.
    """

    @authenticated
    async def post(self, taskid: str) -> None:
        if self.application.options.read_only or self.get_argument(
            "terminate", default=False, type=bool
        ):
            await super().post(taskid)
            return
        objection = await self.run_blocking(
            "job.cancel",
            taskid,
            self.application.cancel,
            taskid,
            connection_errors=(Unavailable,),
        )
        if objection is not None:
            raise HTTPError(HTTPStatus.CONFLICT, objection.message)
        self.write({"message": f"Cancelled '{taskid}'"})


def told_once(task: Task) -> Task:
    """Show how a job stands, in one place: what it came to, or what it failed with last."""
    if task.state == SUCCESS:
        # An attempt before may have failed.
        task.exception = task.traceback = None
    elif task.exception and not task.result:
        task.result, task.exception = task.exception, None
    return task
