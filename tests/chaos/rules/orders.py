"""Each order is placed once, as its job answered, and nothing else moves stock."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tests.chaos.evidence import EventRow, JobRow, MovementRow
from tests.chaos.rules.kinds import (
    ALLOCATE_ORDER,
    CANCEL_ORDER,
    CHANGE_BATCH,
    CHANGE_LINE,
    CREATE_BATCH,
    DEALLOCATE_LINE,
    IMPORT_CHUNK,
    succeeded,
)
from tests.chaos.rules.problems import Case, Problem, Sort

Effect = TypeVar("Effect", MovementRow, EventRow)

# Why a job of each kind may move stock; jobs of any other kind move none.
CAUSES: Mapping[str, frozenset[str]] = {
    ALLOCATE_ORDER: frozenset({"order_allocated"}),
    CREATE_BATCH: frozenset({"batch_created", "backorder_served"}),
    CHANGE_BATCH: frozenset({"quantity_changed", "displaced", "reallocated", "backorder_served"}),
    CHANGE_LINE: frozenset({"line_changed", "backorder_served"}),
    DEALLOCATE_LINE: frozenset({"line_deallocated", "backorder_served"}),
    CANCEL_ORDER: frozenset({"order_cancelled", "backorder_served"}),
    IMPORT_CHUNK: frozenset({"order_allocated", "batch_created", "backorder_served"}),
}

Portions = Counter[tuple[str, str]]
"""Units by line id and batch reference."""


def only_success_has_an_effect(case: Case) -> Iterator[Problem]:
    """Check that what moves stock or places orders is a job that succeeded, as its kind may."""
    jobs = case.evidence.jobs
    for movement in case.evidence.movements:
        job = jobs.get(movement.job_id)
        if job is None or job.state != "succeeded":
            yield _unasked(f"movement {movement.id} is by job", movement.job_id, job)
        elif movement.cause not in CAUSES.get(job.kind, frozenset()):
            yield Problem(
                sort=Sort.UNASKED,
                text=f"job {job.id!r} ({job.kind}) moved stock of batch"
                f" {movement.batch_reference!r} as {movement.cause}",
            )
    for allocation in case.evidence.allocations:
        job = jobs.get(allocation.job_id)
        if job is None or job.state != "succeeded":
            yield _unasked(
                f"line {allocation.line_id!r} of order {allocation.order_id!r} has stock by job",
                allocation.job_id,
                job,
            )
    for order in case.evidence.orders.values():
        job = jobs.get(order.job_id)
        # A refused order is on record as refused.
        kinds = (ALLOCATE_ORDER, IMPORT_CHUNK)
        if job is None or job.kind not in kinds or job.state not in ("succeeded", "rejected"):
            yield _unasked(f"order {order.order_id!r} was placed by job", order.job_id, job)


def orders_are_placed_once(case: Case) -> Iterator[Problem]:
    """Check that of the jobs with an order one has its effect, which is what it answered."""
    moved, told = _by_job(case.evidence.movements), _by_job(case.evidence.events)
    lines = _lines(case)
    effective: Counter[str] = Counter()
    answered: set[str] = set()
    for job in succeeded(case, ALLOCATE_ORDER):
        order_id = job.payload.get("order_id", (job.result or {}).get("order_id"))
        order = case.evidence.orders.get(order_id)
        if order is None:
            yield Problem(
                sort=Sort.MISSING,
                text=f"job {job.id!r} succeeded, its order {order_id!r} is not there",
            )
            continue
        answered.add(order_id)
        yield from _check_lines(job, lines[order_id])
        if order.job_id == job.id or moved[job.id]:
            effective[order_id] += 1
            yield from _check_effect(job, moved[job.id], told[job.id])
        elif told[job.id]:
            yield Problem(
                sort=Sort.DUPLICATED,
                text=f"job {job.id!r} found order {order_id!r} placed already, and tells of it:"
                f" {_names(told[job.id])}",
            )
    for order_id in answered:
        if effective[order_id] > 1:
            yield Problem(
                sort=Sort.DUPLICATED,
                text=f"order {order_id!r} was placed by {effective[order_id]} jobs",
            )
        elif not effective[order_id]:
            yield Problem(
                sort=Sort.MISSING,
                text=f"order {order_id!r} was placed by none of the jobs that succeeded with it",
            )


def _check_lines(job: JobRow, lines: Mapping[str, str]) -> Iterator[Problem]:
    wanted = {
        line.get("line_id") or str(place): line["sku"]
        for place, line in enumerate(job.payload.get("lines", ()), start=1)
    }
    if wanted and wanted != lines:
        yield Problem(
            sort=Sort.MISSING,
            text=f"job {job.id!r} placed lines {wanted}, its order has {dict(lines)}",
        )


def _check_effect(
    job: JobRow, moved: Sequence[MovementRow], events: Sequence[EventRow]
) -> Iterator[Problem]:
    result = job.result or {}
    for movement in moved:
        if movement.order_id != result.get("order_id"):
            yield Problem(
                sort=Sort.UNASKED,
                text=f"job {job.id!r} moved stock for order {movement.order_id!r},"
                f" its own is {result.get('order_id')!r}",
            )
    promised = _promised(result)
    for what, found in (("moved", _moved(moved)), ("told of", _announced(events))):
        if found != promised:
            more = sum((found - promised).values()) > 0
            yield Problem(
                sort=Sort.DUPLICATED if more else Sort.MISSING,
                text=f"job {job.id!r} answered {dict(promised)} and {what} {dict(found)}",
            )
    complete = sum(event.name == "OrderAllocated" for event in events)
    if complete != (result.get("state") == "allocated"):
        yield Problem(
            sort=Sort.DUPLICATED if complete > 1 else Sort.MISSING,
            text=f"job {job.id!r} answered {result.get('state')!r} with {complete} events"
            " OrderAllocated",
        )


def _promised(result: Mapping[str, Any]) -> Portions:
    portions: Portions = Counter()
    for line in result.get("lines", ()):
        for batch in line["batches"]:
            portions[line["line_id"], batch["reference"]] += batch["quantity"]
    return portions


def _moved(movements: Sequence[MovementRow]) -> Portions:
    portions: Portions = Counter()
    for movement in movements:
        portions[str(movement.line_id), movement.batch_reference] += movement.change
    return portions


def _announced(events: Sequence[EventRow]) -> Portions:
    portions: Portions = Counter()
    for event in events:
        for sign, line in event.changes():
            if sign > 0:
                for portion in line["portions"]:
                    portions[line["line_id"], portion["batch"]] += portion["quantity"]
    return portions


def refusals_have_no_effect(case: Case) -> Iterator[Problem]:
    """Check that a refused order says so once, and other jobs without success tell nothing."""
    told = _by_job(case.evidence.events)
    for job in case.evidence.jobs.values():
        if job.state == "succeeded":
            continue
        names = Counter(event.name for event in told[job.id])
        refused = job.kind == ALLOCATE_ORDER and job.state == "rejected"
        if names - (Counter({"OutOfStock": 1}) if refused else Counter()):
            yield Problem(
                sort=Sort.UNASKED,
                text=f"job {job.id!r} ({job.kind}) is {job.state} and tells {dict(names)}",
            )


RULES = (only_success_has_an_effect, orders_are_placed_once, refusals_have_no_effect)


def _lines(case: Case) -> Mapping[str, Mapping[str, str]]:
    """Return the SKU of each line by order and line id."""
    lines: dict[str, dict[str, str]] = defaultdict(dict)
    for line in case.evidence.lines:
        lines[line.order_id][line.line_id] = line.sku
    return lines


def _by_job(rows: Sequence[Effect]) -> Mapping[str, list[Effect]]:
    found: dict[str, list[Effect]] = defaultdict(list)
    for row in rows:
        found[row.job_id].append(row)
    return found


def _names(events: Sequence[EventRow]) -> str:
    return ", ".join(event.name for event in events)


def _unasked(what: str, job_id: str, job: JobRow | None) -> Problem:
    state = "which the ledger does not know" if job is None else f"which is {job.state}"
    return Problem(sort=Sort.UNASKED, text=f"{what} {job_id!r}, {state}")
