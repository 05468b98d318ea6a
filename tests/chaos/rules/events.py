"""Every event reaches the stream, in order within its aggregate, and none that did not happen."""

from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.evidence import EventRow
from tests.chaos.rules.problems import Case, Problem, Sort

ORDER = "order:"
"""How aggregates of orders begin."""


def events_are_of_jobs_that_were_done(case: Case) -> Iterator[Problem]:
    """Check that each event is caused by a job of the ledger that is finished."""
    for event in case.evidence.events:
        job = case.evidence.jobs.get(event.job_id)
        if job is None or job.state not in ("succeeded", "rejected"):
            state = "unknown" if job is None else job.state
            yield _problem(f"{_told(event)} is of job {event.job_id!r}, which is {state}")


def lines_hold_what_events_tell(case: Case) -> Iterator[Problem]:
    """Check that whoever adds up the events of a line knows what it holds."""
    told: dict[tuple[str, str, str], int] = defaultdict(int)
    for event in case.evidence.events:
        for sign, line in event.changes():
            for portion in line["portions"]:
                key = (event.payload["order_id"], line["line_id"], portion["batch"])
                told[key] += sign * portion["quantity"]
    held = {
        (row.order_id, row.line_id, row.batch_reference): row.quantity
        for row in case.evidence.allocations
    }
    for key in told.keys() | held.keys():
        if told[key] != held.get(key, 0):
            order_id, line_id, reference = key
            yield _problem(
                f"line {line_id!r} of order {order_id!r} holds {held.get(key, 0)} of batch"
                f" {reference!r}, its events tell of {told[key]}"
            )


def events_are_published(case: Case) -> Iterator[Problem]:
    """Check that each is on the stream, or was read there before Redis forgot it."""
    if case.evidence.stream is None:
        return
    seen = set(_seen(case).values())
    for event in case.evidence.events:
        if event.published is None:
            yield _problem(f"{_told(event)} was never published")
        elif event.event_id not in seen:
            yield _problem(f"{_told(event)} counts as published and was never on the stream")


def order_is_kept(case: Case) -> Iterator[Problem]:
    """Check that what hangs together came onto the stream in the order of the outbox.

    Events of two lines of an order may come from two jobs at once, which share no lock: they come
    in the order in which these were committed, and nobody decided the one by the other.
    """
    if case.evidence.stream is None:
        return
    rows = {event.event_id: event for event in case.evidence.events}
    latest: dict[tuple[str, ...], EventRow] = {}
    met: set[str] = set()
    for entry, event_id in sorted(_seen(case).items(), key=lambda item: _place(item[0])):
        event = rows.get(event_id)
        if event is None:
            yield _problem(f"entry {entry} tells of event {event_id}, which nothing caused")
            continue
        if event_id in met:
            continue
        met.add(event_id)
        for thread in _threads(event):
            before = latest.get(thread)
            if before is not None and before.id > event.id:
                yield _problem(f"{_told(event)} came onto the stream after {_told(before)}")
                break
            latest[thread] = event


RULES = (
    events_are_of_jobs_that_were_done,
    lines_hold_what_events_tell,
    events_are_published,
    order_is_kept,
)


def _threads(event: EventRow) -> Iterator[tuple[str, ...]]:
    """Return what an event belongs to: within each of these there is an order to keep."""
    yield event.aggregate, "job", event.job_id
    if not event.aggregate.startswith(ORDER):
        yield (event.aggregate,)
        return
    lines = {line["line_id"] for _, line in event.changes()}
    if "line_id" in event.payload:
        lines.add(event.payload["line_id"])
    for line_id in lines:
        yield event.aggregate, "line", line_id


def _seen(case: Case) -> dict[str, str]:
    """Return event ids by entry, of what consumers read and what is still there."""
    return case.testimony.read_events | dict(case.evidence.stream or ())


def _place(entry: str) -> tuple[int, int]:
    milliseconds, _, count = entry.partition("-")
    return int(milliseconds), int(count)


def _told(event: EventRow) -> str:
    return f"event {event.id} ({event.name} of {event.aggregate})"


def _problem(text: str) -> Problem:
    return Problem(sort=Sort.EVENT, text=text)
