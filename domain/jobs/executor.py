"""How jobs run: one transaction per attempt, and an answer for every way it can end."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from domain.errors import (
    Contended,
    DomainError,
    Interrupted,
    InvalidPayload,
    OutOfRoom,
    StaleDecision,
    Unavailable,
)
from domain.jobs.errors import Expired, IdempotencyConflict, WorkerLost
from domain.jobs.kinds import JobKind
from domain.jobs.model import NOT_STORABLE, Failure, Job, JobState, Request, Submission
from domain.jobs.outcomes import Answer, Postponed, Rejected, Succeeded
from domain.jobs.ports import BeginWork, Decoder, Persistence, UnitOfWork
from domain.messages import Command

Claim = Callable[[UnitOfWork], Sequence[Job]]
Probe = Callable[[str], None]

STALE_RUNS = 5
"""Times a decision is made, from the second on with locks first, before the attempt fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a job stands after the executor saw it."""

    job: Job
    exception: Exception | None = None
    """What this very attempt failed with; None where it succeeded or was answered before."""
    is_answer: bool = False
    """It was over before: nothing was done but to say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """Runs jobs of every kind; knows neither Celery nor PostgreSQL."""

    kinds: Mapping[str, JobKind]
    begin_work: BeginWork
    decode: Decoder
    persistently: Persistence
    worker: str
    """Name of this worker process, kept with each failure."""
    reached: Probe = lambda _: None
    """Told the name of each boundary as it is reached; tests interrupt there."""

    def run_submitted(self, submission: Submission, *, redelivered: bool) -> Report:
        """Run the job that a message carries whole.

        Raises:
            IdempotencyConflict: The id is known with another payload; nothing was done.
            Unavailable: The ledger cannot be reached; nothing was done.
        """
        kind = self.kinds[submission.kind]

        def claim(work: UnitOfWork) -> Sequence[Job]:
            return [
                work.jobs.claim_submitted(
                    submission, queue=kind.queue, max_attempts=kind.max_attempts
                )
            ]

        [report] = self._run(kind, claim, suspected=redelivered)
        return report

    def run_submitted_together(
        self, kind_name: str, submissions: Sequence[Submission]
    ) -> list[Report]:
        """Run jobs of one kind that messages carry whole, each id once, in one transaction.

        What the ledger knows already has no report: that is to be run by itself.

        Raises:
            Exception: One of them failed, or the ledger cannot be reached; nothing was done.
        """
        kind = self.kinds[kind_name]

        def claim(work: UnitOfWork) -> Sequence[Job]:
            return work.jobs.claim_new(
                submissions, queue=kind.queue, max_attempts=kind.max_attempts
            )

        return self._decide(kind, claim, counted=False, patient=False)

    def postpone(self, submission: Submission, *, run_after: datetime) -> Report:
        """Put the job that a message carries on record, to be dispatched at a later time.

        Raises:
            IdempotencyConflict: The id is known with another payload; nothing was done.
            Unavailable: The ledger cannot be reached; nothing was done.
        """
        return self._put_off(submission, run_after=run_after)

    def cancel_expired(self, submission: Submission, *, expired: Expired) -> Report:
        """Put the job that a message carries on record as cancelled; raises as `postpone` does."""
        return self._put_off(submission, cancelled=failure_of(expired))

    def _put_off(
        self,
        submission: Submission,
        *,
        run_after: datetime | None = None,
        cancelled: Failure | None = None,
    ) -> Report:
        kind = self.kinds[submission.kind]

        def transaction() -> Report:
            with self.begin_work() as work:
                job = work.jobs.put_off(
                    submission,
                    queue=kind.queue,
                    max_attempts=kind.max_attempts,
                    run_after=run_after,
                    cancelled=cancelled,
                )
                work.commit()
            return Report(job=job)

        return self.persistently(transaction)

    def run_dispatched(
        self, kind_name: str, job_ids: Sequence[str], *, redelivered: bool
    ) -> list[Report]:
        """Run jobs of one kind that the ledger holds; an id it does not hold has no report.

        Raises:
            Unavailable: The ledger cannot be reached; what is not reported was not done.
        """
        kind = self.kinds[kind_name]
        if redelivered:
            return self._one_by_one(kind, job_ids)
        return self._run(kind, _claim_of(kind, job_ids))

    def _one_by_one(self, kind: JobKind, job_ids: Sequence[str]) -> list[Report]:
        # A worker may have died of one of these: each counts its attempt before it runs, and
        # runs alone, so that whichever job kills its worker does so in its own name.
        reports: list[Report] = []
        patient = True
        for job_id in job_ids:
            done = self._run(kind, _claim_of(kind, [job_id]), suspected=True, patient=patient)
            patient = patient and not any(_has_waited(report.exception) for report in done)
            reports += done
        return reports

    def _run(
        self, kind: JobKind, claim: Claim, *, suspected: bool = False, patient: bool = True
    ) -> list[Report]:
        if suspected:
            sight = _FirstSight()
            begun = self.persistently(lambda: self._begin_attempts(claim, sight))
            if all(job.state.is_terminal for job in begun):
                return [
                    # One that has changed has ended just now, for want of attempts.
                    Report(job=job, is_answer=not sight.has_changed(job))
                    for job in begun
                ]
        try:
            return self._decide(kind, claim, counted=suspected, patient=patient)
        except _Suspicious as suspicion:
            return self._one_by_one(kind, suspicion.job_ids)
        except (OutOfRoom, Interrupted):
            if suspected:
                self._take_back_attempts(claim)
            raise
        except (Unavailable, IdempotencyConflict):
            raise
        except Exception as error:  # noqa: BLE001  the executor must record every failure
            # One wait is enough for all jobs of a message: who shares it is not held up again.
            patient = patient and not _has_waited(error)
            return self._after_failure(kind, claim, error, counted=suspected, patient=patient)

    def _decide(self, kind: JobKind, claim: Claim, *, counted: bool, patient: bool) -> list[Report]:
        for run in range(STALE_RUNS):
            locks_first = run > 0

            def transaction(*, locks_first: bool = locks_first) -> list[Report]:
                return self._transact(
                    kind, claim, counted=counted, locks_first=locks_first, patient=patient
                )

            try:
                return self.persistently(transaction, patient=patient)
            except StaleDecision as stale:
                last = stale
        raise last

    def _transact(
        self, kind: JobKind, claim: Claim, *, counted: bool, locks_first: bool, patient: bool
    ) -> list[Report]:
        """Claim, effect, events and result: committed together, or not at all."""
        with self.begin_work(locks_first=locks_first, patient=patient) as work:
            jobs = claim(work)
            self.reached("job.claimed")
            answered = [Report(job=job, is_answer=True) for job in jobs if job.state.is_terminal]
            todo = [job for job in jobs if not job.state.is_terminal]
            if not todo:
                return answered
            if not counted and any(job.dispatches > 1 for job in todo):
                raise _Suspicious([job.id for job in todo])
            outcomes = self._handle(kind, todo, work)
            self.reached("job.handled")
            ended = list(zip(todo, outcomes, strict=True))
            finished = [
                (job, outcome) for job, outcome in ended if not isinstance(outcome, Postponed)
            ]
            work.jobs.finish(finished, counted=counted)
            self.reached("job.finished")
            work.commit()
        self.reached("job.committed")
        return [_settled(job, outcome, counted=counted) for job, outcome in ended] + answered

    def _handle(self, kind: JobKind, jobs: Sequence[Job], work: UnitOfWork) -> list[Answer]:
        commands = [self._command(job) for job in jobs]
        requests = [
            Request(job_id=job.id, command=command)
            for job, command in zip(jobs, commands, strict=True)
            if not isinstance(command, Rejected)
        ]
        handled = iter(kind.handler(requests, work) if requests else ())
        return [command if isinstance(command, Rejected) else next(handled) for command in commands]

    def _command(self, job: Job) -> Command | Rejected:
        try:
            if NOT_STORABLE in job.payload:
                raise InvalidPayload(str(job.payload[NOT_STORABLE]))
            return self.decode(job.kind, job.payload)
        except DomainError as error:
            return Rejected(error=error, forget_payload=self.kinds[job.kind].personal)

    def _begin_attempts(self, claim: Claim, sight: "_FirstSight") -> list[Job]:
        with self.begin_work() as work:
            seen = claim(work)
            begun = [
                job
                # What cannot be decoded will be refused, which kills nobody: count nothing, and
                # leave a payload that may not stay out of the ledger.
                if job.state.is_terminal
                or sight.has_changed(job)
                or isinstance(self._command(job), Rejected)
                else work.jobs.begin_attempt(job, lost=failure_of(_worker_lost(job)))
                for job in seen
            ]
            if begun != list(seen):
                work.commit()
        self.reached("attempt.counted")
        return begun

    def _take_back_attempts(self, claim: Claim) -> None:
        """Count the attempts not made, so that no full disk passes for a job that kills workers.

        It is another matter where the connection broke: the job may be what broke it.
        """
        sight = _FirstSight()

        def transaction() -> None:
            with self.begin_work() as work:
                for job in claim(work):
                    if not (job.state.is_terminal or sight.has_changed(job)):
                        work.jobs.take_back_attempt(job)
                work.commit()

        with suppress(Unavailable, Contended):
            self.persistently(transaction)

    def _after_failure(
        self, kind: JobKind, claim: Claim, error: Exception, *, counted: bool, patient: bool
    ) -> list[Report]:
        suspects = self.persistently(lambda: self._open_jobs(claim))
        if len(suspects) > 1:
            # One of them is the bad one: halve until it stands alone, so the rest get done.
            middle = len(suspects) // 2
            return [
                report
                for half in (suspects[:middle], suspects[middle:])
                for report in self._run(kind, _claim_of(kind, half), patient=patient)
            ]
        sight = _FirstSight()
        reports = self.persistently(
            lambda: self._record_failure(kind, claim, error, sight, counted=counted)
        )
        self.reached("failure.committed")
        return reports

    def _open_jobs(self, claim: Claim) -> list[str]:
        with self.begin_work() as work:
            return [job.id for job in claim(work) if not job.state.is_terminal]

    def _record_failure(
        self,
        kind: JobKind,
        claim: Claim,
        error: Exception,
        sight: "_FirstSight",
        *,
        counted: bool,
    ) -> list[Report]:
        with self.begin_work() as work:
            reports = [
                Report(job=job, is_answer=True)
                if job.state.is_terminal
                else Report(
                    job=job
                    if sight.has_changed(job)
                    else work.jobs.fail(
                        job,
                        failure_of(error, personal=kind.personal),
                        worker=self.worker,
                        counted=counted,
                        # Who waits for others is not to blame, however often it waits.
                        spare=_has_waited(error),
                    ),
                    exception=error,
                )
                for job in claim(work)
            ]
            work.commit()
        return reports


class _FirstSight:
    """How jobs stood when a note of an attempt was first to be made.

    A transaction is run again when its connection breaks, which may be after its commit: what
    has changed since is noted already, and to note it again would count one attempt as two.
    """

    def __init__(self) -> None:
        self._seen: dict[str, Job] = {}

    def has_changed(self, job: Job) -> bool:
        seen = self._seen.setdefault(job.id, job)
        return (job.state, job.attempts, job.run_after) != (
            seen.state,
            seen.attempts,
            seen.run_after,
        )


class _Suspicious(Exception):
    """One of these was dispatched before and never finished: it may have killed its worker."""

    def __init__(self, job_ids: Sequence[str]) -> None:
        self.job_ids = job_ids
        super().__init__(job_ids)


def _claim_of(kind: JobKind, job_ids: Sequence[str]) -> Claim:
    alone = len(job_ids) == 1

    def claim(work: UnitOfWork) -> Sequence[Job]:
        # A lone job waits for whoever holds it, to answer with that outcome; in a batch, what
        # is held is in good hands and is left out.
        return [job for job in work.jobs.claim(job_ids, wait=alone) if job.kind == kind.name]

    return claim


def failure_of(error: Exception, *, personal: bool = False) -> Failure:
    """Describe an exception in plain values; a refusal by the business carries no traceback.

    What fails a `personal` job may quote its payload, as PostgreSQL quotes a row that breaks a
    rule: only the place in the code is kept.
    """
    if isinstance(error, DomainError):
        message, details, trace = error.message, error.details, None
    elif personal:
        message = "the reason may hold personal data and is not kept; see where it was raised"
        details, trace = {}, "".join(traceback.format_tb(error.__traceback__))
    else:
        message, details = str(error), {}
        trace = "".join(traceback.format_exception(error))
    return Failure(
        type=type(error).__name__,
        module=type(error).__module__,
        message=message,
        details=details,
        traceback=trace,
    )


def _has_waited(error: Exception | None) -> bool:
    return isinstance(error, Contended)


def _worker_lost(job: Job) -> WorkerLost:
    return WorkerLost(
        f"the worker died in each of {job.attempts} attempts at this {job.kind} job;"
        f" see what it does to memory and time, then `tallyman jobs retry {job.id}`"
    )


def _settled(job: Job, outcome: Answer, *, counted: bool) -> Report:
    """Bring a job to where its row is, now that this is committed."""
    attempts = job.attempts + (not counted)
    match outcome:
        case Succeeded(result=result):
            job.attempts, job.state, job.result = attempts, JobState.SUCCEEDED, result
        case Postponed():
            pass
        case Rejected(error=error):
            job.attempts, job.state, job.error = attempts, JobState.REJECTED, failure_of(error)
    return Report(job=job)
