"""The journey of a job as spans of OpenTelemetry, by its conventions for messaging.

    submit allocation                    PRODUCER, where the job was accepted
    └─ send allocation                   PRODUCER, the relay
       └─ process allocation             CONSUMER, an attempt, with its statements
          └─ send tallyman:events        PRODUCER, the relay

A message of many jobs has a trace of its own, `send` and `process`, which links to each job. Each
job has a `process` in its own trace, too, which links back to it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import time_ns

from celery.exceptions import Ignore, Retry
from opentelemetry import context as ambient
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from adapters.event_stream import STREAM
from domain.jobs.dispatching import Dispatch
from domain.jobs.executor import Report
from domain.jobs.model import TRACEPARENT, Job, Submission
from domain.jobs.publishing import RecordedEvent
from worker.tracing import attributes
from worker.tracing.attributes import Attributes
from worker.tracing.untraced import Message, Untraced

_RUNNING = ambient.create_key("tallyman-message")
_W3C = TraceContextTextMapPropagator()


@dataclass(slots=True, kw_only=True)
class _Running:
    """A message whose jobs run now."""

    span: Span
    queue: str
    is_alone: bool
    """It is of one job, and its span is that of the attempt."""
    began: int = field(default_factory=time_ns)
    attempts: dict[str, Span] = field(default_factory=dict)
    """Spans of the jobs of a larger message that are not over."""
    is_told: bool = False
    """How its jobs stand was told."""


class Journey(Untraced):
    """Makes a span of each step of a job; it never says what a payload holds."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def submitting(
        self, submissions: Sequence[Submission], *, queues: Iterable[str]
    ) -> Iterator[Sequence[Submission]]:
        told = attributes.of_operation("submit", "send", system="tallyman", queues={*queues})
        if len(submissions) == 1:
            [job] = submissions
            told |= attributes.of_job(job.job_id, job.kind, correlation_id=job.correlation_id)
            # Who hands over a place in a trace speaks for somebody who is not here.
            with self._doing(told, within=_within(job.traceparent)) as span:
                yield [job.coming_from(_text(span) or job.traceparent)]
            return
        with self._doing(told | attributes.of_batch(len(submissions))) as span:
            text = _text(span)
            yield [each if each.traceparent else each.coming_from(text) for each in submissions]

    @contextmanager
    def sending(self, dispatch: Dispatch, *, queue: str) -> Iterator[Mapping[str, str]]:
        told = attributes.of_operation("send", "send", system="celery", queues={queue})
        links: Sequence[Link] = ()
        if len(dispatch.job_ids) == 1:
            told |= attributes.of_job(
                dispatch.job_ids[0], dispatch.kind, correlation_id=dispatch.correlation_id
            )
            within = _within(*dispatch.traceparents)
        else:
            told |= attributes.of_batch(len(dispatch.job_ids), kind=dispatch.kind)
            within, links = _apart(dispatch.traceparents)
        with self._doing(told, within=within, links=links) as span:
            text = _text(span)
            yield {"traceparent": text} if text else {}

    @contextmanager
    def telling(self, events: Sequence[RecordedEvent]) -> Iterator[Sequence[RecordedEvent]]:
        spans = [self._telling(event) for event in events]
        try:
            yield [
                event._replace(traceparent=_text(span)) if span else event
                for event, span in zip(events, spans, strict=True)
            ]
        except Exception as error:
            for span in filter(None, spans):
                attributes.fail(span, error)
            raise
        finally:
            for span in filter(None, spans):
                span.end()

    def _telling(self, event: RecordedEvent) -> Span | None:
        if event.traceparent is None:
            # It would be a trace of its own, which nothing leads to.
            return None
        return self._tracer.start_span(
            f"send {STREAM}",
            _within(event.traceparent),
            SpanKind.PRODUCER,
            attributes.of_event(event, stream=STREAM),
        )

    @contextmanager
    def running(self, message: Message, *, queue: str) -> Iterator[None]:
        job_ids = message.args[0] if message.args else [message.id]
        is_alone = len(job_ids) == 1
        told = attributes.of_operation("process", "process", system="celery", queues={queue})
        if is_alone:
            told |= attributes.of_job(str(job_ids[0]), message.task)
        else:
            told |= attributes.of_batch(len(job_ids), kind=message.task)
        span = self._tracer.start_span(
            f"process {queue}",
            _W3C.extract(message.headers or {}, Context()),
            SpanKind.CONSUMER,
            told,
        )
        running = _Running(span=span, queue=queue, is_alone=is_alone)
        token = ambient.attach(
            ambient.set_value(_RUNNING, running, trace.set_span_in_context(span))
        )
        try:
            yield
        except (Retry, Ignore):
            # Its jobs wait for something, which is no failure of this message.
            raise
        except Exception as error:
            if not running.is_told:
                attributes.fail(span, error)
            raise
        finally:
            ambient.detach(token)
            # Attempts that came to nothing, and are not over for their jobs.
            for each in (*running.attempts.values(), span):
                each.end()

    def adopt(self, submission: Submission) -> Submission:
        running = _running()
        if submission.traceparent is not None or running is None:
            return submission
        return submission.coming_from(_text(running.span))

    def place(self, job: Job) -> str | None:
        running = _running()
        found = _text(self._attempt(running, job)) if running else None
        return found or job.traceparent

    def ran(self, reports: Sequence[Report]) -> None:
        running = _running()
        if running is None:
            return
        running.is_told = True
        # A job whose producer said nothing comes from here.
        for traceparent in {report.job.traceparent for report in reports} - {_text(running.span)}:
            if origin := _parse(traceparent):
                running.span.add_link(origin, {attributes.LINK: "accepted"})
        for report in reports:
            span = self._attempt(running, report.job)
            attributes.tell(span, report)
            if failed := _parse(report.job.failed_traceparent):
                span.add_link(failed, {attributes.LINK: "previous attempt"})
            if not running.is_alone:
                del running.attempts[report.job.id]
                span.end()

    def _attempt(self, running: _Running, job: Job) -> Span:
        if running.is_alone:
            return running.span
        if job.id not in running.attempts:
            told = attributes.of_operation(
                "process", "process", system="celery", queues={running.queue}
            )
            running.attempts[job.id] = self._tracer.start_span(
                f"process {running.queue}",
                _within(job.traceparent),
                SpanKind.CONSUMER,
                told | attributes.of_job(job.id, job.kind),
                [Link(running.span.get_span_context(), {attributes.LINK: "message"})],
                start_time=running.began,
            )
        return running.attempts[job.id]

    @contextmanager
    def _doing(
        self, told: Attributes, *, within: Context | None = None, links: Sequence[Link] = ()
    ) -> Iterator[Span]:
        destination = told.get(attributes.DESTINATION)
        name = f"{told[attributes.OPERATION]!s}" + (f" {destination!s}" if destination else "")
        with self._tracer.start_as_current_span(
            name,
            within,
            SpanKind.PRODUCER,
            told,
            links,
            # Their texts may quote what is of people.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                attributes.fail(span, error)
                raise


def _running() -> _Running | None:
    found = ambient.get_value(_RUNNING)
    return found if isinstance(found, _Running) else None


def _parse(traceparent: str | None) -> SpanContext | None:
    # Rows that others have written may hold anything.
    found = TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    if found is None:
        return None
    trace_id, span_id, flags = found.groups()
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )


def _text(span: Span) -> str | None:
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return (
        f"00-{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
        f"-{int(context.trace_flags):02x}"
    )


def _within(*traceparents: str | None) -> Context | None:
    """Return the context of the first place; None, which is where we are, where there is none."""
    for context in filter(None, map(_parse, traceparents)):
        return trace.set_span_in_context(trace.NonRecordingSpan(context), Context())
    return None


def _apart(traceparents: Sequence[str]) -> tuple[Context | None, list[Link]]:
    """Return where a message of many jobs is, and its links to where they come from.

    It is in a trace of its own, unless nobody follows any of its jobs: then nobody follows it.
    """
    origins = [*filter(None, map(_parse, dict.fromkeys(traceparents)))]
    if origins and not any(origin.trace_flags.sampled for origin in origins):
        return _within(traceparents[0]), []
    return Context(), [Link(origin, {attributes.LINK: "accepted"}) for origin in origins]
