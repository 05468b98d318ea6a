"""Flower's API as a door for jobs: what it takes is checked before it becomes a message."""

from contextlib import suppress
from http import HTTPStatus
from typing import Any, ClassVar

from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult
from flower.api.tasks import BaseTaskHandler, TaskApply, TaskAsyncApply, TaskResult
from tornado.web import HTTPError

from domain.jobs.model import JOB_ID_LENGTH
from domain.kinds import KINDS
from tasks.protocol import is_id

MOST_WAIT_SECONDS = 30.0
"""How long an answer is waited for; who wants to wait longer asks again."""
MOST_SECONDS = 366 * 86_400
"""Longest time that a job can be put off by."""


class Checked(BaseTaskHandler):
    """Takes the payload of a job, its id and its times, and no more of what Celery can be told."""

    known: ClassVar[tuple[str, ...]] = ("kwargs", "task_id", "countdown", "eta", "expires")

    def get_task_args(self) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
        if self.path_args[0] not in KINDS:
            raise HTTPError(
                HTTPStatus.NOT_FOUND, f"no job kind has this name; known: {', '.join(KINDS)}"
            )
        arguments, payload, options = super().get_task_args()
        if arguments:
            raise _refused("the payload of a job is its kwargs; args stay empty")
        if not isinstance(payload, dict):
            raise _refused("kwargs must be an object")
        # Not by their names: who swaps names and values sends those of people.
        if options.keys() - set(self.known):
            raise _refused(f"it has fields that are not known; known: {', '.join(self.known)}")
        if "task_id" in options and not is_id(options["task_id"]):
            raise _refused(f"task_id must be a text of 1 to {JOB_ID_LENGTH} printable characters")
        for name in ("countdown", "timeout"):
            if name in options and not _is_duration(options[name]):
                raise _refused(f"{name} must be a number of seconds, 0 to {MOST_SECONDS}")
        for name in ("eta", "expires"):
            if name in options and not _is_time(options[name], or_duration=name == "expires"):
                raise _refused(f"{name} must be a time in UTC such as 2030-01-02 03:04:05.000")
        return [], payload, options


class AsyncApply(Checked, TaskAsyncApply):
    """Enqueues a job."""


class Apply(Checked, TaskApply):
    """Enqueues a job and waits for what becomes of it, for a while."""

    known = (*Checked.known, "timeout")

    def get_task_args(self) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
        arguments, payload, options = super().get_task_args()
        wait = min(options.get("timeout", MOST_WAIT_SECONDS), MOST_WAIT_SECONDS)
        return arguments, payload, {**options, "timeout": wait}


class Result(TaskResult):
    """Tells what became of a job, and waits for it where it is asked to."""

    def read_result(self, result: AsyncResult[Any], timeout: float | None) -> dict[str, Any]:
        if timeout is not None and timeout > 0:
            with suppress(CeleryTimeoutError):
                result.get(timeout=min(timeout, MOST_WAIT_SECONDS), propagate=False)
        # Flower's own would tell the state before the wait, with the result after it.
        answer: dict[str, Any] = super().read_result(result, None)
        return answer


HANDLERS = {
    "/api/task/apply/": Apply,
    "/api/task/async-apply/": AsyncApply,
    # For kinds that are known there is no difference.
    "/api/task/send-task/": AsyncApply,
    "/api/task/result/": Result,
}


def _is_duration(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= MOST_SECONDS
    )


def _is_time(value: object, *, or_duration: bool) -> bool:
    # What its text says is read by Flower, which refuses what it cannot read.
    return isinstance(value, str) or (or_duration and _is_duration(value))


def _refused(why: str) -> HTTPError:
    return HTTPError(HTTPStatus.BAD_REQUEST, why)
