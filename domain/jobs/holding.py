"""Holding: what becomes of jobs that reach a worker while their queue may not run them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.errors import DomainError
from domain.jobs.executor import Report
from domain.jobs.kinds import JobKind
from domain.jobs.model import NOT_STORABLE, Job, Submission
from domain.jobs.ports import BeginWork, Decoder, Persistence


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Leaves jobs to the relay, which hands them out when their queue lets it.

    No attempt is counted, and what has finished is answered as ever.
    """

    kinds: Mapping[str, JobKind]
    begin_work: BeginWork
    decode: Decoder
    persistently: Persistence

    def hold_submitted(self, submission: Submission, *, redelivered: bool) -> Report | None:
        """Put on record the job that a message carries whole; None where it would be refused.

        Raises:
            IdempotencyConflict: The id is known with another payload; nothing was done.
            Unavailable: The ledger cannot be reached; nothing was done.
        """
        kind = self.kinds[submission.kind]
        if NOT_STORABLE in submission.payload:
            return None
        try:
            self.decode(kind.name, submission.payload)
        except DomainError:
            return None

        def transaction() -> Report:
            with self.begin_work() as work:
                job = work.jobs.claim_submitted(
                    submission, queue=kind.queue, max_attempts=kind.max_attempts
                )
                if not job.state.is_terminal:
                    work.jobs.release([job.id], queue=kind.queue, suspected=redelivered)
                work.commit()
            return Report(job=job)

        return self.persistently(transaction)

    def hold_dispatched(
        self, kind_name: str, job_ids: Sequence[str], *, redelivered: bool
    ) -> list[Report]:
        """Give jobs of one kind back; one that somebody runs now is in good hands.

        Raises:
            Unavailable: The ledger cannot be reached; nothing was done.
        """
        kind = self.kinds[kind_name]

        def transaction() -> list[Job]:
            with self.begin_work() as work:
                claimed = work.jobs.claim(job_ids, wait=False)
                jobs = [job for job in claimed if job.kind == kind.name]
                left = [job.id for job in jobs if not job.state.is_terminal]
                work.jobs.release(left, queue=kind.queue, suspected=redelivered)
                work.commit()
            return jobs

        return [
            Report(job=job, is_answer=job.state.is_terminal)
            for job in self.persistently(transaction)
        ]
