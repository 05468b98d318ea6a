"""Running messages together, in a worker's process: one transaction, and Celery's word for each."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from celery import current_app
from celery.app.task import Context
from celery.app.trace import fast_trace_task
from kombu.serialization import loads
from uuid6 import uuid7

from domain.errors import Interrupted, InvalidPayload, Unavailable
from domain.jobs.model import Submission
from tasks.ahead import ahead
from tasks.giving_back import hand
from tasks.jobs import JobTask

log = structlog.get_logger()

SHARE = 0.1
"""Part of a job's time after which none is begun that others have kept waiting: it has less left,
and would be blamed for what they took."""

Message = tuple[str, dict[str, Any], bytes, str, str]
"""Job id, headers, body, its content type and encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """Messages that run together, as one whose jobs are many."""

    task: str
    args: Sequence[Any]
    id: str = field(default_factory=lambda: str(uuid7()))
    headers: None = None


def run_together(task_name: str, messages: Sequence[Message]) -> list[tuple[Any, ...]]:
    """Run messages that carry payloads in one transaction; return what tracing says of each.

    Celery traces each message as if it had come alone, and the task finds its work done. What
    could not be done together is done then.
    """
    bodies = [
        loads(body, content_type, encoding, accept={content_type})
        for _, _, body, content_type, encoding in messages
    ]
    payloads = [payload for _, payload, _ in bodies]
    task: JobTask = current_app.tasks[task_name]
    deadline = time.monotonic() + SHARE * (task.soft_time_limit or inf)
    traced: list[tuple[Any, ...]] = []
    try:
        _run_ahead(task, messages, _submissions(task, messages, payloads))
        for (job_id, headers, *_), body in zip(messages, bodies, strict=True):
            if time.monotonic() > deadline:
                ahead.away = ahead.away or Interrupted("others took their time")
            traced.append(fast_trace_task(task_name, job_id, headers, body, None, None))
    finally:
        ahead.forget()
    return traced


def _submissions(
    task: JobTask, messages: Sequence[Message], payloads: Sequence[dict[str, Any]]
) -> list[Submission]:
    submissions: dict[str, Submission | None] = {}
    for (job_id, headers, *_), payload in zip(messages, payloads, strict=True):
        # The same id once: the next asks for what the first came to, be that a refusal.
        if job_id not in submissions:
            submissions[job_id] = _submission(task, Context(headers), payload)
    return [submission for submission in submissions.values() if submission]


def _submission(task: JobTask, context: Context, payload: Mapping[str, Any]) -> Submission | None:
    try:
        return task.submission(context, payload)
    except InvalidPayload:
        return None


def _run_ahead(
    task: JobTask, messages: Sequence[Message], submissions: Sequence[Submission]
) -> None:
    if len(submissions) < 2:  # noqa: PLR2004  one is no company
        return
    runtime = task.runtime()
    lot = Lot(task=task.name, args=([each.job_id for each in submissions],))
    try:
        with hand.taking():
            if runtime.gate.objection(task.home, pace=None) is not None:
                return
            with runtime.traces.running(lot, queue=task.home):
                reports = runtime.executor.run_submitted_together(
                    task.name, [runtime.traces.adopt(each) for each in submissions]
                )
            ahead.reports = {report.job.id: report for report in reports}
            wanted = {job_id for job_id, headers, *_ in messages if _is_wanted(headers)}
            runtime.mirror.copy(*(each.job for each in reports if each.job.id in wanted))
    except SoftTimeLimitExceeded:
        # What is left of the time is too short for any of them: they come again, one by one.
        ahead.away = Interrupted("they took too long together")
    except Unavailable as error:
        ahead.away = error
    except Exception as error:  # noqa: BLE001  whatever it is, one of them meets it by itself
        log.debug("ran_by_themselves", kind=task.name, error=type(error).__name__)


def _is_wanted(headers: Mapping[str, Any]) -> bool:
    """Tell whether a producer may wait for the result."""
    return not Context(headers).ignore_result
