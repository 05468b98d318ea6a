"""Batches, orders and histories of commands for tests, with as little said as each test needs."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import count
from typing import Any, NamedTuple, Protocol, cast

from hypothesis import strategies as st

from domain.allocation.commands import (
    AllocateOrder,
    CancelOrder,
    ChangeBatchEta,
    ChangeBatchQuantity,
    ChangeLineQuantity,
    CreateBatch,
    DeallocateLine,
    Line,
    Policy,
)
from domain.allocation.kinds import KINDS
from domain.allocation.ports import AllocationWork
from domain.allocation.strategies import Strategy
from domain.jobs.model import Request
from domain.jobs.outcomes import Outcome, Rejected, Succeeded
from domain.messages import Command, Event

Handler = Callable[[Sequence[Request[Any]], Any], Sequence[Outcome]]

HANDLERS: dict[type[Command], Handler] = {
    kind.command: cast("Handler", kind.handler) for kind in KINDS
}

TODAY = date(2030, 1, 1)
SPRING, SUMMER, AUTUMN = date(2030, 4, 1), date(2030, 7, 1), date(2030, 10, 1)

_JOB_NUMBERS: Iterator[int] = count(1)


class RecordingWork(AllocationWork, Protocol):
    """A unit of work whose events can be looked at."""

    recorded: list[tuple[str, Event]]


def a_batch(
    reference: str = "b1", quantity: int = 10, *, sku: str = "LAMP", eta: date | None = None
) -> CreateBatch:
    return CreateBatch(reference=reference, sku=sku, quantity=quantity, eta=eta)


def an_order(order_id: str = "o1", *wanted: int | tuple[str, int], **terms: Any) -> AllocateOrder:
    """Order quantities of a lamp, or of the SKU beside each; lines are called 1, 2, …."""
    return AllocateOrder(
        order_id=order_id,
        lines=tuple(
            Line(sku="LAMP", quantity=each)
            if isinstance(each, int)
            else Line(sku=each[0], quantity=each[1])
            for each in wanted
        ),
        **terms,
    )


def a_backorder(
    order_id: str = "o1", *wanted: int | tuple[str, int], **terms: Any
) -> AllocateOrder:
    return an_order(order_id, *wanted, policy=Policy.BACKORDER, **terms)


def a_partial_order(
    order_id: str = "o1", *wanted: int | tuple[str, int], **terms: Any
) -> AllocateOrder:
    return an_order(order_id, *wanted, policy=Policy.PARTIAL, **terms)


def requests(*commands: Command) -> list[Request[Any]]:
    return [Request(job_id=f"job-{next(_JOB_NUMBERS)}", command=command) for command in commands]


def handle(work: AllocationWork, *commands: Command) -> list[Outcome]:
    """Handle each command in a batch of its own."""
    return [outcome for each in commands for outcome in handle_together(work, each)]


def handle_together(work: AllocationWork, *commands: Command) -> Sequence[Outcome]:
    """Handle commands of one kind in one batch."""
    return HANDLERS[type(commands[0])](requests(*commands), work)


def answer(outcome: Outcome) -> dict[str, Any]:
    """Return the answer of a command that was not refused."""
    assert isinstance(outcome, Succeeded), outcome
    return dict(outcome.result)


def refusal(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """Return code and details of a refusal."""
    assert isinstance(outcome, Rejected), outcome
    return outcome.error.code, outcome.error.details


def told(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """Return all that a producer is told, in a form that can be compared."""
    return ("ok", answer(outcome)) if isinstance(outcome, Succeeded) else refusal(outcome)


class Together(NamedTuple):
    """Commands of one kind that are handled in one batch."""

    handler: Handler
    requests: list[Request[Any]]

    @property
    def alone(self) -> "list[Together]":
        """The same commands, each in a batch of its own."""
        return [Together(self.handler, [request]) for request in self.requests]


_SKUS = ["LAMP", "CHAIR"]
_REFERENCES = ["b1", "b2", "b3", "b4", "b5", "b6"]
_skus = st.sampled_from(_SKUS)
_order_ids = st.sampled_from(["o1", "o2", "o3", "o4", "o5", "o6"])
_line_ids = st.sampled_from(["1", "2", "3"])
_etas = st.sampled_from([None, None, SPRING, SUMMER])
_stock = st.integers(0, 12)
_wants = st.integers(1, 9)

_orders = st.builds(
    AllocateOrder,
    order_id=_order_ids,
    lines=st.lists(st.builds(Line, sku=_skus, quantity=_wants), min_size=1, max_size=3).map(tuple),
    policy=st.sampled_from(Policy),
    may_split=st.booleans(),
    strategy=st.sampled_from(Strategy),
    priority=st.integers(0, 2),
)

_creations = st.builds(
    CreateBatch, reference=st.sampled_from(_REFERENCES), sku=_skus, quantity=_stock, eta=_etas
)

_CHANGES: list[st.SearchStrategy[Any]] = [
    _creations,
    _orders,
    _orders,
    st.builds(
        ChangeBatchQuantity,
        reference=st.sampled_from(_REFERENCES),
        quantity=_stock,
        displace=st.sampled_from([True, True, False]),
    ),
    st.builds(ChangeBatchEta, reference=st.sampled_from(_REFERENCES), eta=_etas),
    st.builds(ChangeLineQuantity, order_id=_order_ids, line_id=_line_ids, quantity=_wants),
    st.builds(DeallocateLine, order_id=_order_ids, line_id=_line_ids),
    st.builds(CancelOrder, order_id=_order_ids),
]


@st.composite
def histories(draw: st.DrawFn, *, most: int = 14) -> list[Together]:
    """Draw batches of commands over few SKUs, references and order ids, so that they collide."""
    drawn: list[list[Command]] = [
        draw(st.lists(_creations, min_size=1, max_size=4)),
        draw(st.lists(_orders, min_size=1, max_size=4)),
    ]
    for commands in draw(st.lists(st.sampled_from([*_CHANGES, None]), max_size=most)):
        if commands is None:
            drawn.append([draw(st.sampled_from([each for batch in drawn for each in batch]))])
        else:
            drawn.append(draw(st.lists(commands, min_size=1, max_size=3)))
    return [
        Together(
            HANDLERS[type(commands[0])],
            [
                Request(job_id=f"job-{number}-{place}", command=command)
                for place, command in enumerate(commands)
            ],
        )
        for number, commands in enumerate(drawn)
    ]
