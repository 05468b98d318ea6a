"""What spans say: attributes by OpenTelemetry's conventions, and nothing that a payload holds."""

from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from domain.jobs.executor import Report
from domain.jobs.model import JobState
from domain.jobs.publishing import RecordedEvent

Attributes = dict[str, AttributeValue]

DESTINATION = "messaging.destination.name"
OPERATION = "messaging.operation.name"
CONVERSATION = "messaging.message.conversation_id"
MESSAGE_ID = "messaging.message.id"
LINK = "tallyman.link"
"""What a link leads to: `accepted`, `previous attempt` or `message`."""


def of_operation(operation: str, kind: str, *, system: str, queues: set[str]) -> Attributes:
    """Say what is done, `submit`, of which kind, `send`, and where, if that is one place."""
    told: Attributes = {
        "messaging.system": system,
        OPERATION: operation,
        "messaging.operation.type": kind,
    }
    if len(queues) == 1:
        [told[DESTINATION]] = queues
    return told


def of_job(job_id: str, kind: str, *, correlation_id: str | None = None) -> Attributes:
    told: Attributes = {MESSAGE_ID: job_id, "tallyman.job.id": job_id, "tallyman.job.kind": kind}
    if correlation_id is not None:
        told[CONVERSATION] = correlation_id
    return told


def of_batch(jobs: int, *, kind: str | None = None) -> Attributes:
    told: Attributes = {"messaging.batch.message_count": jobs}
    if kind is not None:
        told["tallyman.job.kind"] = kind
    return told


def of_event(event: RecordedEvent, *, stream: str) -> Attributes:
    told = of_operation("send", "send", system="redis", queues={stream})
    told |= {
        MESSAGE_ID: event.event_id,
        "tallyman.event.name": event.name,
        "tallyman.job.id": event.job_id,
    }
    if event.correlation_id is not None:
        told[CONVERSATION] = event.correlation_id
    return told


def tell(span: Span, report: Report) -> None:
    """Say how an attempt went; a refusal is an answer, not an error."""
    if not span.is_recording():
        return
    job = report.job
    span.set_attributes(
        {"tallyman.job.attempt": job.attempts, "tallyman.job.state": str(job.state)}
    )
    if job.correlation_id is not None:
        span.set_attribute(CONVERSATION, job.correlation_id)
    if job.state is JobState.REJECTED and job.error is not None:
        span.set_attribute("tallyman.job.refusal", job.error.type)
    if report.exception is not None:
        fail(span, report.exception)


def fail(span: Span, error: Exception) -> None:
    """Say what kind of error it was; its text may quote what is of people."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))
