"""What upstream systems ask of allocation; each command is a job kind."""

from collections import Counter
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from hashlib import sha256
from typing import ClassVar, Self

from domain.allocation.errors import (
    InvalidIdentifier,
    InvalidOrder,
    InvalidQuantity,
    InvalidSku,
)
from domain.allocation.strategies import Strategy
from domain.errors import DomainError
from domain.messages import Command, Message

IDENTIFIER_LENGTH = 64
MOST_UNITS = 1_000_000_000
MOST_LINES = 1_000
MOST_PRIORITY = 9


class Policy(StrEnum):
    """What becomes of an order when a line of it is short."""

    ALL_OR_NOTHING = "all_or_nothing"
    """The order is refused and holds nothing."""
    PARTIAL = "partial"
    """Lines that can be served are; the rest is refused."""
    BACKORDER = "backorder"
    """Lines that can be served are; the rest waits for stock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBatch(Command):
    """Announce a quantity of one product, on hand or arriving."""

    kind: ClassVar[str] = "allocation.create_batch"

    reference: str
    """Unique reference of the batch, such as a purchase order's number."""
    sku: str
    """Stock keeping unit that the batch holds."""
    quantity: int
    """Units purchased, 0 or more."""
    eta: date | None = None
    """Day it arrives; null where it is on hand."""

    def __post_init__(self) -> None:
        _check_identifier("reference", self.reference)
        _check_sku(self.sku)
        _check_quantity(self.quantity, least=0)

    def fingerprint(self) -> str:
        """Digest of the batch as announced: the same batch again, or another?"""
        return _digest(self.sku, self.quantity, self.eta)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeBatchQuantity(Command):
    """Set how many units a batch holds; lines that no longer fit move or wait."""

    kind: ClassVar[str] = "allocation.change_batch_quantity"

    reference: str
    """Reference of the batch."""
    quantity: int
    """Units purchased from now on, 0 or more."""
    displace: bool = True
    """False refuses a cut below what is allocated, with QuantityTooLow."""

    def __post_init__(self) -> None:
        _check_identifier("reference", self.reference)
        _check_quantity(self.quantity, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeBatchEta(Command):
    """Set the day a batch arrives."""

    kind: ClassVar[str] = "allocation.change_batch_eta"

    reference: str
    """Reference of the batch."""
    eta: date | None
    """Day it arrives; null where it is on hand."""

    def __post_init__(self) -> None:
        _check_identifier("reference", self.reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Message):
    """A line of an order."""

    sku: str
    """Stock keeping unit that is wanted."""
    quantity: int
    """Units wanted, 1 or more."""
    line_id: str = ""
    """Id of the line, unique in its order; its position (1, 2, …) where not given."""

    def __post_init__(self) -> None:
        _check_sku(self.sku)
        _check_quantity(self.quantity, least=1)
        if self.line_id:
            _check_identifier("line_id", self.line_id)

    def numbered(self, position: int) -> Self:
        """Return the same line with its position as its id; the rest was checked before."""
        twin = object.__new__(type(self))
        object.__setattr__(twin, "sku", self.sku)
        object.__setattr__(twin, "quantity", self.quantity)
        object.__setattr__(twin, "line_id", str(position))
        return twin


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateOrder(Command):
    """Find stock for an order of one or many lines."""

    kind: ClassVar[str] = "allocation.allocate_order"

    order_id: str
    """Unique id of the order."""
    lines: tuple[Line, ...]
    """The order's lines, 1 to 1,000."""
    policy: Policy = Policy.ALL_OR_NOTHING
    """What becomes of the order when a line is short."""
    may_split: bool = False
    """True lets a line draw on several batches; false keeps it whole on one."""
    strategy: Strategy = Strategy.EARLIEST
    """How batches are ranked."""
    priority: int = 0
    """0 to 9: who waits in front among backorders, and who is displaced last by a cut."""

    def __post_init__(self) -> None:
        _check_identifier("order_id", self.order_id)
        _check_priority(self.priority)
        if not 1 <= len(self.lines) <= MOST_LINES:
            raise InvalidOrder(
                f"an order has 1 to {MOST_LINES} lines, order {self.order_id!r}"
                f" has {len(self.lines)}",
                {"order_id": self.order_id, "lines": len(self.lines)},
            )
        numbered = [
            line if line.line_id else line.numbered(position)
            for position, line in enumerate(self.lines, start=1)
        ]
        object.__setattr__(self, "lines", tuple(numbered))
        ids = [line.line_id for line in numbered]
        if len(set(ids)) < len(ids):
            [(line_id, count)] = Counter(ids).most_common(1)
            raise InvalidOrder(
                f"line ids are unique in an order, {self.order_id!r} has {count} lines {line_id!r}",
                {"order_id": self.order_id, "line_id": line_id},
            )

    def fingerprint(self) -> str:
        """Digest of the order as placed: the same order again, or another?"""
        lines = [(line.line_id, line.sku, line.quantity) for line in self.lines]
        return _digest(str(self.policy), self.may_split, str(self.strategy), self.priority, lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeLineQuantity(Command):
    """Set how many units an order line wants."""

    kind: ClassVar[str] = "allocation.change_line_quantity"

    order_id: str
    """Id of the order."""
    line_id: str
    """Id of the line in it."""
    quantity: int
    """Units wanted from now on, 1 or more."""

    def __post_init__(self) -> None:
        _check_identifier("order_id", self.order_id)
        _check_identifier("line_id", self.line_id)
        _check_quantity(self.quantity, least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeallocateLine(Command):
    """Take a line out of its order: its stock is released and it waits no longer."""

    kind: ClassVar[str] = "allocation.deallocate_line"

    order_id: str
    """Id of the order."""
    line_id: str
    """Id of the line in it."""

    def __post_init__(self) -> None:
        _check_identifier("order_id", self.order_id)
        _check_identifier("line_id", self.line_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder(Command):
    """Cancel an order: the stock of all its lines is released."""

    kind: ClassVar[str] = "allocation.cancel_order"

    order_id: str
    """Id of the order."""

    def __post_init__(self) -> None:
        _check_identifier("order_id", self.order_id)


def _digest(*contents: object) -> str:
    return sha256(repr(contents).encode()).hexdigest()


def _check_quantity(quantity: int, *, least: int) -> None:
    if not least <= quantity <= MOST_UNITS:
        raise InvalidQuantity.outside(quantity, least=least, most=MOST_UNITS)


def _check_sku(sku: str) -> None:
    _check_identifier("sku", sku, error=InvalidSku)


def _check_priority(priority: int) -> None:
    if not 0 <= priority <= MOST_PRIORITY:
        raise InvalidOrder(
            f"priority must be 0 to {MOST_PRIORITY}, got {priority}", {"priority": priority}
        )


def _check_identifier(
    field: str, value: str, *, error: type[DomainError] = InvalidIdentifier
) -> None:
    if not (0 < len(value) <= IDENTIFIER_LENGTH and value.isprintable() and value == value.strip()):
        raise error(
            f"{field} must be 1 to {IDENTIFIER_LENGTH} printable characters"
            f" without spaces around them, got {value[: IDENTIFIER_LENGTH + 16]!r}",
            {"field": field},
        )
