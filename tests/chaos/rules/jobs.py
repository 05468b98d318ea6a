"""What was accepted is finished, once, as it was handed over, and its answer stays the same."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.chaos.audit_trail import JobMove
from tests.chaos.evidence import JobRow
from tests.chaos.history import Door
from tests.chaos.rules.problems import Case, Problem, Sort
from tests.chaos.testimony import TERMINAL

SCHEDULED = "sched:"
"""How ids of jobs begin that the clock asked for: no client knows them."""
IMPORTS = "imports."
"""How kinds of jobs begin that follow from a file; `rules.imports` knows which may be there."""

OPEN = frozenset({"queued", "retry"})
# The states that may follow a state; a job that comes stands at None.
MOVES: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"queued"}),
    "queued": OPEN | TERMINAL,
    "retry": OPEN | TERMINAL,
    # By an operator alone.
    "dead": frozenset({"queued"}),
    "succeeded": frozenset(),
    "rejected": frozenset(),
    "cancelled": frozenset(),
}


def nothing_accepted_is_lost(case: Case) -> Iterator[Problem]:
    """Check that what `submit` accepted is in the ledger; a message may be lost on its way."""
    for job_id, told in case.testimony.jobs.items():
        if told.accepted[Door.SUBMISSION] and job_id not in case.evidence.jobs:
            yield Problem(
                sort=Sort.LOST,
                text=f"job {job_id!r} ({told.kinds}) was accepted by submit and has no row",
            )


def all_is_finished(case: Case) -> Iterator[Problem]:
    """Check that no job is left open, and that none was given up."""
    for job in case.evidence.jobs.values():
        if job.state in OPEN:
            yield Problem(
                sort=Sort.LEFT_OPEN,
                text=f"job {job.id!r} ({job.kind}) is {job.state} after {job.attempts} attempts",
            )
        if job.state == "dead":
            yield Problem(
                sort=Sort.DEAD,
                text=f"job {job.id!r} ({job.kind}) is dead after {job.attempts} attempts:"
                f" {_error(job)}",
            )


def drained_in_time(case: Case) -> Iterator[Problem]:
    """Check that all was finished in the time allowed, once load and faults had ended."""
    for seconds, allowed in case.testimony.drains:
        if seconds > allowed:
            yield Problem(
                sort=Sort.LEFT_OPEN,
                text=f"what was open took {seconds:.1f} s to finish, {allowed:.1f} s are allowed",
            )


def nobody_else_made_jobs(case: Case) -> Iterator[Problem]:
    """Check that each row was handed over by somebody, who was not refused."""
    for job in case.evidence.jobs.values():
        told = case.testimony.jobs.get(job.id)
        if told is None and not (job.id.startswith(SCHEDULED) or job.kind.startswith(IMPORTS)):
            yield Problem(
                sort=Sort.UNASKED,
                text=f"job {job.id!r} ({job.kind}, {job.state}) was handed over by nobody",
            )
        elif told and told.offers and not told.taken:
            yield Problem(
                sort=Sort.UNASKED,
                text=f"job {job.id!r} ({job.kind}, {job.state}) is in the ledger and was refused",
            )


def jobs_are_as_handed_over(case: Case) -> Iterator[Problem]:
    """Check that kind and payload are those of the client, unless they were scrubbed."""
    for job_id, told in case.testimony.jobs.items():
        job = case.evidence.jobs.get(job_id)
        if job is None or not told.taken:
            continue
        kinds = {offer.kind for offer in told.taken}
        payloads = [offer.payload for offer in told.taken]
        if job.kind not in kinds:
            yield Problem(
                sort=Sort.CHANGED,
                text=f"job {job_id!r} is of kind {job.kind}, not {' or '.join(sorted(kinds))}",
            )
        if job.payload not in payloads and not job.is_scrubbed:
            yield Problem(
                sort=Sort.CHANGED,
                text=f"job {job_id!r} holds {job.payload!r}, it was handed over as {payloads[0]!r}",
            )


def answers_never_change(case: Case) -> Iterator[Problem]:
    """Check that whoever read a finished job read the same each time, to the end."""
    for job_id, told in case.testimony.jobs.items():
        job = case.evidence.jobs.get(job_id)
        seen = list(told.answers)
        if job is not None and job.is_scrubbed:
            continue
        if job is not None and seen:
            now = {"state": job.state, "result": job.result, "error": _error(job)}
            if now not in seen:
                seen.append(now)
        if len(seen) > 1:
            yield Problem(
                sort=Sort.CHANGED,
                text=f"job {job_id!r} answered {_answer(seen[0])} and later {_answer(seen[-1])}",
            )
        if job is None and seen:
            yield Problem(
                sort=Sort.CHANGED,
                text=f"job {job_id!r} answered {_answer(seen[0])} and has no row now",
            )


def attempts_are_bounded(case: Case) -> Iterator[Problem]:
    """Check that a job was tried before it was finished, and not more often than it may."""
    for job in case.evidence.jobs.values():
        least = 1 if job.state in ("succeeded", "rejected", "dead") else 0
        if not least <= job.attempts <= job.max_attempts:
            yield Problem(
                sort=Sort.ILLEGAL_MOVE,
                text=f"job {job.id!r} ({job.kind}) is {job.state} after {job.attempts} attempts,"
                f" {job.max_attempts} are allowed",
            )


def moves_are_legal(case: Case) -> Iterator[Problem]:
    """Check that every state of a job may follow the one before, and that no row went."""
    latest: dict[str, JobMove] = {}
    for move in case.evidence.moves or ():
        before = latest.get(move.job_id)
        if move.after is None:
            yield Problem(
                sort=Sort.LOST, text=f"the row of job {move.job_id!r} ({move.before}) was deleted"
            )
            continue
        state = before.after if before else None
        stays = before is not None and move.after == state
        if state != move.before or not (stays or move.after in MOVES[state]):
            yield Problem(
                sort=Sort.ILLEGAL_MOVE,
                text=f"job {move.job_id!r} went from {state} to {move.after}",
            )
        elif before and stays and before.answer and move.answer and before.answer != move.answer:
            yield Problem(
                sort=Sort.CHANGED, text=f"job {move.job_id!r} is {state} and answers otherwise now"
            )
        elif before and stays and state in TERMINAL and move.attempts != before.attempts:
            yield Problem(
                sort=Sort.DUPLICATED,
                text=f"job {move.job_id!r} was finished again: attempts went from"
                f" {before.attempts} to {move.attempts}",
            )
        latest[move.job_id] = move


def the_trail_ends_where_jobs_stand(case: Case) -> Iterator[Problem]:
    """Check that the trail, where there is one, tells of every job up to its present state."""
    if case.evidence.moves is None:
        return
    last = {move.job_id: move.after for move in case.evidence.moves}
    for job in case.evidence.jobs.values():
        if last.get(job.id) != job.state:
            yield Problem(
                sort=Sort.ILLEGAL_MOVE,
                text=f"job {job.id!r} is {job.state}, the trail leaves it at {last.get(job.id)}",
            )


RULES = (
    nothing_accepted_is_lost,
    all_is_finished,
    drained_in_time,
    nobody_else_made_jobs,
    jobs_are_as_handed_over,
    answers_never_change,
    attempts_are_bounded,
    moves_are_legal,
    the_trail_ends_where_jobs_stand,
)


def _error(job: JobRow) -> str | None:
    return None if job.error is None else str(job.error.get("type"))


def _answer(answer: Mapping[str, Any]) -> str:
    return f"{answer['state']} {answer['result'] or answer['error']}"
