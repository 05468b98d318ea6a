"""Logs: one line an event with its ids, for people or for machines, Celery's own included."""

import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Any

import structlog
from celery import Task, signals
from structlog.typing import EventDict, Processor

from domain.jobs.errors import Expired
from domain.jobs.executor import Executor, Report
from domain.jobs.model import Submission
from worker import attempt_log
from worker.harmless import harmless, harmless_line
from worker.settings import Settings

TELLS_PAYLOADS = "celery.pool"
"""Logger that at DEBUG tells each message with all that it holds, which may be of people."""
QUOTES_ROWS = "psycopg"
"""Logger that warns of errors beside one that is raised: they may quote a row, and be of people."""
CHATTY = (
    *("alembic", "asyncio", "urllib3", "kombu", "amqp", "redis"),
    # They tell of each message that it came and what came of it, as our own line does.
    *("celery.worker.strategy", "celery.app.trace"),
)
"""Loggers whose everyday messages nobody needs at INFO."""

_PASSWORD = re.compile(r"(://[^\s/:@'\"]*):[^\s'\"]+@")


def set_up(settings: Settings, *, process: str = "worker") -> None:
    """Send everything that is logged to standard error, in the configured form."""

    def name_process(_: object, __: str, event: EventDict) -> EventDict:
        event.update(process=process, pid=os.getpid())
        return event

    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _write_out,
        _place_in_trace,
        # People see which it is: each process has a file, or a terminal, of its own.
        *([name_process] if settings.log_format == "json" else []),
    ]
    structlog.configure(
        processors=[
            *common,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(settings),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger(TELLS_PAYLOADS).setLevel(max(logging.INFO, root.level))
    logging.getLogger(QUOTES_ROWS).setLevel(max(logging.ERROR, root.level))


def _write_out(_: object, __: str, event: EventDict) -> EventDict:
    """Have what others have sent forge no line and steer no terminal."""
    for name, value in event.items():
        if isinstance(value, str):
            # Celery's own events have lines.
            event[name] = harmless(value) if name == "event" else harmless_line(value)
    return event


def _write_out_traceback(_: object, __: str, event: EventDict) -> EventDict:
    if "exception" in event:
        event["exception"] = harmless(event["exception"])
    return event


def _renderers(settings: Settings) -> list[Processor]:
    # Tracebacks without the values of variables: those may be of people.
    match settings.log_format:
        case "console":
            return [
                structlog.processors.format_exc_info,
                _mask_passwords,
                _write_out_traceback,
                structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
            ]
        case "json":
            return [
                structlog.processors.format_exc_info,
                _mask_passwords,
                structlog.processors.JSONRenderer(),
            ]


def _mask_passwords(_: object, __: str, event: EventDict) -> EventDict:
    """Take passwords out of addresses, whoever quotes one."""
    return {
        name: _PASSWORD.sub(r"\1:**@", value)
        if isinstance(value, str) and "://" in value
        else value
        for name, value in event.items()
    }


def _place_in_trace(_: object, __: str, event: EventDict) -> EventDict:
    """Say where in a trace a line is, if this process makes traces."""
    trace = sys.modules.get("opentelemetry.trace")
    context = trace.get_current_span().get_span_context() if trace else None
    if trace is not None and context is not None and context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def connect(settings: Settings, *, process: str = "worker") -> None:
    """Have Celery's processes log through here, each job's lines with its id and kind.

    Who says first which process it is, is believed.
    """
    signals.setup_logging.connect(
        lambda **_: set_up(settings, process=process), weak=False, dispatch_uid="tallyman-logs"
    )
    signals.task_prerun.connect(_bind, weak=False, dispatch_uid="tallyman-bind")
    signals.task_postrun.connect(_unbind, weak=False, dispatch_uid="tallyman-unbind")


def _bind(*, task_id: str, task: Task, args: Sequence[Any], **_: object) -> None:
    dispatched = args[0] if args and isinstance(args[0], list) else [task_id]
    structlog.contextvars.bind_contextvars(kind=task.name)
    if len(dispatched) == 1:
        structlog.contextvars.bind_contextvars(
            job_id=str(dispatched[0]), correlation_id=task.request.correlation_id
        )
    else:
        structlog.contextvars.bind_contextvars(jobs=len(dispatched))


def _unbind(**_: object) -> None:
    structlog.contextvars.unbind_contextvars("kind", "job_id", "correlation_id", "jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedExecutor(Executor):
    """Logs each attempt, or each message of many."""

    ran: Callable[[Sequence[Report]], None] = lambda _: None
    """Told how the jobs of each message stand."""

    # `super()` needs the class that `slots` has replaced.
    def run_submitted(self, submission: Submission, *, redelivered: bool) -> Report:
        began = perf_counter()
        report = Executor.run_submitted(self, submission, redelivered=redelivered)
        attempt_log.tell([report], seconds=perf_counter() - began)
        self.ran([report])
        return report

    def run_submitted_together(
        self, kind_name: str, submissions: Sequence[Submission]
    ) -> list[Report]:
        began = perf_counter()
        # They run before Celery traces any of them, which is when `_bind` is called.
        with structlog.contextvars.bound_contextvars(kind=kind_name):
            reports = Executor.run_submitted_together(self, kind_name, submissions)
            attempt_log.tell(reports, seconds=perf_counter() - began)
        self.ran(reports)
        return reports

    def run_dispatched(
        self, kind_name: str, job_ids: Sequence[str], *, redelivered: bool
    ) -> list[Report]:
        began = perf_counter()
        reports = Executor.run_dispatched(self, kind_name, job_ids, redelivered=redelivered)
        attempt_log.tell(reports, seconds=perf_counter() - began)
        self.ran(reports)
        return reports

    def postpone(self, submission: Submission, *, run_after: datetime) -> Report:
        report = Executor.postpone(self, submission, run_after=run_after)
        attempt_log.tell_put_off(report)
        return report

    def cancel_expired(self, submission: Submission, *, expired: Expired) -> Report:
        report = Executor.cancel_expired(self, submission, expired=expired)
        attempt_log.tell_put_off(report)
        return report
