"""What the journey of a job tells of itself: as it stands here, nothing."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from domain.jobs.dispatching import Dispatch
from domain.jobs.executor import Report
from domain.jobs.model import Job, Submission
from domain.jobs.publishing import RecordedEvent


class Message(Protocol):
    """A message that is about to run: Celery's request of a task."""

    id: str
    task: str
    args: Sequence[Any]
    headers: Mapping[str, Any] | None


class Untraced:
    """Makes no span, and hands on what others have said of the trace that a job is in."""

    def submitting(
        self, submissions: Sequence[Submission], *, queues: Iterable[str]
    ) -> AbstractContextManager[Sequence[Submission]]:
        """Accept jobs within the context; give them as they are to be stored."""
        return nullcontext(submissions)

    def sending(
        self, dispatch: Dispatch, *, queue: str
    ) -> AbstractContextManager[Mapping[str, str]]:
        """Send a message within the context; give the headers that it is to have."""
        if len(dispatch.job_ids) == 1 and dispatch.traceparents:
            return nullcontext({"traceparent": dispatch.traceparents[0]})
        return nullcontext({})

    def telling(
        self, events: Sequence[RecordedEvent]
    ) -> AbstractContextManager[Sequence[RecordedEvent]]:
        """Publish events within the context; give them as they are to be published."""
        return nullcontext(events)

    def running(self, message: Message, *, queue: str) -> AbstractContextManager[None]:
        """Run the jobs of a message within the context."""
        return nullcontext()

    def adopt(self, submission: Submission) -> Submission:
        """Say where in a trace a job is that a message carries, if its producer did not."""
        return submission

    def place(self, job: Job) -> str | None:
        """Say where in a trace a job is that is at work."""
        return job.traceparent

    def ran(self, reports: Sequence[Report]) -> None:
        """Note how the jobs of the message that runs stand now."""
