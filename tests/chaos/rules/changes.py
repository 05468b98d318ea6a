"""Batches come once; what jobs set is set, and what they withdraw is withdrawn."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from tests.chaos.rules.kinds import (
    ALLOCATE_ORDER,
    CANCEL_ORDER,
    CHANGE_BATCH,
    CHANGE_LINE,
    CREATE_BATCH,
    DEALLOCATE_LINE,
    succeeded,
)
from tests.chaos.rules.problems import Case, Problem, Sort
from tests.chaos.testimony import rows_of


def batches_are_created_once(case: Case) -> Iterator[Problem]:
    events = Counter(
        event.payload["reference"] for event in case.evidence.events if event.name == "BatchCreated"
    )
    bought: dict[str, list[int]] = defaultdict(list)
    for movement in case.evidence.movements:
        if movement.cause == "batch_created":
            bought[movement.batch_reference].append(movement.change)
    wanted: dict[str, int] = {}
    for job in succeeded(case, CREATE_BATCH):
        if job.payload:
            wanted[job.payload["reference"]] = job.payload["quantity"]
    for row in rows_of(case.testimony, "batches"):
        wanted[row["reference"]] = int(row["quantity"])
    for reference, quantity in wanted.items():
        if reference not in case.evidence.batches:
            yield Problem(sort=Sort.MISSING, text=f"batch {reference!r} is not there")
        if bought[reference] != ([quantity] if quantity else []) or events[reference] != 1:
            many = events[reference] > 1 or len(bought[reference]) > 1
            yield Problem(
                sort=Sort.DUPLICATED if many else Sort.MISSING,
                text=f"batch {reference!r} of {quantity} was bought as {bought[reference]}"
                f" and announced {events[reference]} times",
            )
    for reference in case.evidence.batches.keys() - wanted.keys():
        yield Problem(sort=Sort.UNASKED, text=f"batch {reference!r} was created by no job")


def changes_are_made(case: Case) -> Iterator[Problem]:
    """Check that lines want, and batches hold, what a job set; or what they began with."""
    lines: dict[tuple[str, str], set[int]] = defaultdict(set)
    for job in succeeded(case, CHANGE_LINE):
        if job.payload:
            key = (job.payload["order_id"], job.payload["line_id"])
            lines[key].add(job.payload["quantity"])
    placed = _wanted_at_first(case)
    for line in case.evidence.lines:
        key = (line.order_id, line.line_id)
        asked = lines.get(key) or placed.get(key)
        if asked and line.quantity not in asked:
            yield Problem(
                sort=Sort.MISSING,
                text=f"line {line.line_id!r} of order {line.order_id!r} wants {line.quantity},"
                f" jobs set it to {sorted(asked)}",
            )
    batches: dict[str, set[int]] = defaultdict(set)
    for job in succeeded(case, CHANGE_BATCH):
        if job.payload:
            batches[job.payload["reference"]].add(job.payload["quantity"])
    for reference, quantities in batches.items():
        batch = case.evidence.batches.get(reference)
        if batch and batch.purchased not in quantities:
            yield Problem(
                sort=Sort.MISSING,
                text=f"batch {reference!r} holds {batch.purchased},"
                f" jobs set it to {sorted(quantities)}",
            )


def _wanted_at_first(case: Case) -> Mapping[tuple[str, str], set[int]]:
    wanted: dict[tuple[str, str], set[int]] = defaultdict(set)
    for job in succeeded(case, ALLOCATE_ORDER):
        for place, line in enumerate(job.payload.get("lines", ()), start=1):
            key = (job.payload["order_id"], line.get("line_id") or str(place))
            wanted[key].add(line["quantity"])
    return wanted


def withdrawals_are_made_once(case: Case) -> Iterator[Problem]:
    """Check that lines taken out, and those of cancelled orders, are cancelled; told once."""
    states = {(line.order_id, line.line_id): line.state for line in case.evidence.lines}
    of_order: dict[str, list[str]] = defaultdict(list)
    for line in case.evidence.lines:
        of_order[line.order_id].append(line.state)
    taken_out: set[str] = set()
    for job in succeeded(case, DEALLOCATE_LINE):
        order_id, line_id = job.payload["order_id"], job.payload["line_id"]
        taken_out.add(order_id)
        if states.get((order_id, line_id)) != "cancelled":
            yield Problem(
                sort=Sort.MISSING,
                text=f"job {job.id!r} took line {line_id!r} out of order {order_id!r},"
                f" it is {states.get((order_id, line_id))}",
            )
    told = Counter(
        event.payload["order_id"]
        for event in case.evidence.events
        if event.name == "OrderCancelled"
    )
    for order_id in {job.payload["order_id"] for job in succeeded(case, CANCEL_ORDER)}:
        if set(of_order[order_id]) != {"cancelled"}:
            yield Problem(
                sort=Sort.MISSING,
                text=f"order {order_id!r} was cancelled, its lines are {of_order[order_id]}",
            )
        # Where each line was taken out before, there was nothing left to cancel.
        least = 0 if order_id in taken_out else 1
        if not least <= told[order_id] <= 1:
            yield Problem(
                sort=Sort.DUPLICATED if told[order_id] else Sort.MISSING,
                text=f"order {order_id!r} was cancelled and told so {told[order_id]} times",
            )


RULES = (batches_are_created_once, changes_are_made, withdrawals_are_made_once)
