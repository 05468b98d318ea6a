"""Logs: one line an event with its ids, for people or for machines, Celery's own included."""

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from celery import Task, signals
from structlog.typing import Processor

from domain.jobs.executor import Executor, Report
from domain.jobs.model import Submission
from worker.settings import Settings

log = structlog.get_logger()

TELLS_PAYLOADS = "celery.pool"
"""Logger that at DEBUG tells each message with all that it holds, which may be of people."""
CHATTY = ("alembic", "asyncio", "urllib3", "kombu", "amqp", "redis")
"""Libraries whose everyday messages nobody needs at INFO."""


def set_up(settings: Settings) -> None:
    """Send everything that is logged to standard error, in the configured form."""
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
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


def _renderers(settings: Settings) -> list[Processor]:
    # Tracebacks without the values of variables: those may be of people.
    match settings.log_format:
        case "console":
            return [
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(),
                    exception_formatter=structlog.dev.plain_traceback,
                )
            ]
        case "json":
            return [
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ]


def connect(settings: Settings) -> None:
    """Have Celery's processes log through here, each job's lines with its id and kind."""
    signals.setup_logging.connect(
        lambda **_: set_up(settings), weak=False, dispatch_uid="tallyman-logs"
    )
    signals.task_prerun.connect(_bind, weak=False, dispatch_uid="tallyman-bind")
    signals.task_postrun.connect(_unbind, weak=False, dispatch_uid="tallyman-unbind")


def _bind(*, task_id: str, task: Task, args: Sequence[Any], **_: object) -> None:
    dispatched = args[0] if args and isinstance(args[0], list) else [task_id]
    structlog.contextvars.bind_contextvars(kind=task.name)
    if len(dispatched) == 1:
        structlog.contextvars.bind_contextvars(job_id=str(dispatched[0]))
    else:
        structlog.contextvars.bind_contextvars(jobs=len(dispatched))


def _unbind(**_: object) -> None:
    structlog.contextvars.unbind_contextvars("kind", "job_id", "jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedExecutor(Executor):
    """Logs each attempt that failed: one job of a batch has no line of Celery's."""

    ran: Callable[[Sequence[Report]], None] = lambda _: None
    """Told how the jobs of each message stand."""

    # `super()` needs the class that `slots` has replaced.
    def run_submitted(self, submission: Submission, *, redelivered: bool) -> Report:
        report = Executor.run_submitted(self, submission, redelivered=redelivered)
        _log_failures([report])
        self.ran([report])
        return report

    def run_dispatched(
        self, kind_name: str, job_ids: Sequence[str], *, redelivered: bool
    ) -> list[Report]:
        reports = Executor.run_dispatched(self, kind_name, job_ids, redelivered=redelivered)
        _log_failures(reports)
        self.ran(reports)
        return reports


def _log_failures(reports: Iterable[Report]) -> None:
    for report in reports:
        if report.exception is not None:
            log.warning(
                "attempt_failed",
                job_id=report.job.id,
                kind=report.job.kind,
                correlation_id=report.job.correlation_id,
                attempt=report.job.attempts,
                of=report.job.max_attempts,
                state=str(report.job.state),
                error=type(report.exception).__name__,
            )
