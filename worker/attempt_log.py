"""The log of attempts: a line for each, or for each message where that is of many jobs."""

import logging
from collections import Counter
from collections.abc import Sequence

import structlog

from domain.jobs.executor import Report
from domain.jobs.model import JobState

log = structlog.get_logger()


def tell(reports: Sequence[Report], *, seconds: float) -> None:
    """Tell how the jobs of a message stand, which took so long.

    Of many jobs, what is as it should be is counted: 200 lines would take longer than the jobs.
    """
    took = round(seconds * 1_000, 1)
    in_detail = len(reports) == 1 or logging.getLogger(__name__).isEnabledFor(logging.DEBUG)
    for report in reports:
        if in_detail or _is_failure(report) or _is_refusal(report):
            _tell_attempt(report, took=took)
    if len(reports) != 1:
        states = Counter(str(report.job.state) for report in reports)
        log.info("message_done", jobs=len(reports), duration_ms=took, **states)


def tell_put_off(report: Report) -> None:
    """Tell of a message whose job is on record and does not run now, or not any more."""
    job = report.job
    log.info(
        "job_put_off",
        job_id=job.id,
        kind=job.kind,
        correlation_id=job.correlation_id,
        state=str(job.state),
        run_after=job.run_after and job.run_after.isoformat(),
    )


def _tell_attempt(report: Report, *, took: float) -> None:
    job = report.job
    told = {
        "job_id": job.id,
        "kind": job.kind,
        "correlation_id": job.correlation_id,
        "attempt": job.attempts,
        "duration_ms": took,
    }
    if _is_failure(report):
        error = type(report.exception).__name__ if report.exception else _code(report)
        told |= {"of": job.max_attempts, "state": str(job.state), "error": error}
        if job.state is JobState.DEAD:
            log.error("attempt_failed", **told)
        else:
            log.warning("attempt_failed", **told)
    elif _is_refusal(report):
        log.info("attempt_refused", error=_code(report), **told)
    elif report.is_answer:
        log.info("job_answered", state=str(job.state), **told)
    elif job.state is JobState.SUCCEEDED:
        log.info("attempt_succeeded", **told)
    else:
        log.info("attempt_not_final", state=str(job.state), **told)


def _is_failure(report: Report) -> bool:
    # One that is dead without an exception was found to have killed its last worker.
    is_lost = report.job.state is JobState.DEAD and not report.is_answer
    return report.exception is not None or is_lost


def _is_refusal(report: Report) -> bool:
    return report.job.state is JobState.REJECTED and not report.is_answer


def _code(report: Report) -> str | None:
    return report.job.error.type if report.job.error else None
