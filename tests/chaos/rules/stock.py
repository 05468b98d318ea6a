"""Stock is conserved: counters, allocations and movements tell one story."""

from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.rules.problems import Case, Problem, Sort


def no_batch_is_over_allocated(case: Case) -> Iterator[Problem]:
    for batch in case.evidence.batches.values():
        if not 0 <= batch.allocated <= batch.purchased:
            yield _problem(
                f"batch {batch.reference!r} has {batch.allocated} allocated"
                f" of {batch.purchased} purchased"
            )


def counters_are_what_lines_hold(case: Case) -> Iterator[Problem]:
    """Check that the counter of each batch is the sum of the allocations from it."""
    held: dict[str, int] = defaultdict(int)
    for allocation in case.evidence.allocations:
        held[allocation.batch_reference] += allocation.quantity
    for batch in case.evidence.batches.values():
        if batch.allocated != held[batch.reference]:
            yield _problem(
                f"batch {batch.reference!r} counts {batch.allocated} allocated,"
                f" its lines hold {held[batch.reference]}"
            )


def movements_are_chains(case: Case) -> Iterator[Problem]:
    """Check that each movement begins where the last one ended, and the last at the counter."""
    standing: dict[tuple[str, str], int] = defaultdict(int)
    for movement in case.evidence.movements:
        key = (movement.batch_reference, movement.counter)
        if movement.before != standing[key]:
            yield _problem(
                f"movement {movement.id} of batch {movement.batch_reference!r}"
                f" ({movement.counter}, by job {movement.job_id!r}) begins at {movement.before},"
                f" the one before it ended at {standing[key]}"
            )
        standing[key] = movement.after
    for batch in case.evidence.batches.values():
        for counter, value in (("purchased", batch.purchased), ("allocated", batch.allocated)):
            if standing[batch.reference, counter] != value:
                yield _problem(
                    f"batch {batch.reference!r} has {value} {counter},"
                    f" its movements end at {standing[batch.reference, counter]}"
                )


def all_that_was_bought_is_there(case: Case) -> Iterator[Problem]:
    """Check that what is available and what lines hold, together, is what was bought."""
    bought = sum(
        movement.change for movement in case.evidence.movements if movement.counter == "purchased"
    )
    available = sum(batch.purchased - batch.allocated for batch in case.evidence.batches.values())
    held = sum(allocation.quantity for allocation in case.evidence.allocations)
    if available + held != bought:
        yield _problem(f"{bought} units were bought, {available} are available and {held} are held")


def portions_are_what_moved(case: Case) -> Iterator[Problem]:
    """Check that what a line holds of a batch is the sum of its movements."""
    moved: dict[tuple[str, str, str], int] = defaultdict(int)
    for movement in case.evidence.movements:
        if movement.order_id is not None and movement.line_id is not None:
            key = (movement.order_id, movement.line_id, movement.batch_reference)
            moved[key] += movement.change
    held = {
        (row.order_id, row.line_id, row.batch_reference): row.quantity
        for row in case.evidence.allocations
    }
    for key in moved.keys() | held.keys():
        if moved[key] != held.get(key, 0):
            order_id, line_id, reference = key
            yield _problem(
                f"line {line_id!r} of order {order_id!r} holds {held.get(key, 0)} of batch"
                f" {reference!r}, {moved[key]} were moved to it"
            )


def lines_hold_what_their_state_says(case: Case) -> Iterator[Problem]:
    held: dict[tuple[str, str], int] = defaultdict(int)
    for allocation in case.evidence.allocations:
        held[allocation.order_id, allocation.line_id] += allocation.quantity
    for line in case.evidence.lines:
        has = held[line.order_id, line.line_id]
        fits = {
            "allocated": has == line.quantity,
            "partially_allocated": 0 < has < line.quantity,
            "backordered": has < line.quantity,
            "rejected": has == 0,
            "cancelled": has == 0,
        }
        if not fits.get(line.state, False):
            yield _problem(
                f"line {line.line_id!r} of order {line.order_id!r} is {line.state}"
                f" and holds {has} of {line.quantity}"
            )


def nobody_waits_for_what_is_free(case: Case) -> Iterator[Problem]:
    """Check that no line that has nothing waits while a batch could serve it whole."""
    held = {(each.order_id, each.line_id) for each in case.evidence.allocations}
    free: dict[str, int] = defaultdict(int)
    for batch in case.evidence.batches.values():
        free[batch.sku] = max(free[batch.sku], batch.purchased - batch.allocated)
    for line in case.evidence.lines:
        waits = line.state == "backordered" and (line.order_id, line.line_id) not in held
        if waits and free[line.sku] >= line.quantity:
            yield _problem(
                f"line {line.line_id!r} of order {line.order_id!r} waits for {line.quantity} of"
                f" {line.sku!r}, of which a batch has {free[line.sku]}"
            )


RULES = (
    no_batch_is_over_allocated,
    counters_are_what_lines_hold,
    movements_are_chains,
    all_that_was_bought_is_there,
    portions_are_what_moved,
    lines_hold_what_their_state_says,
    nobody_waits_for_what_is_free,
)


def _problem(text: str) -> Problem:
    return Problem(sort=Sort.STOCK, text=text)
