"""What allocation refuses, and why."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date

from domain.errors import DomainError


class InvalidIdentifier(DomainError):
    """A reference, an order id or a line id that cannot be one."""


class InvalidOrder(DomainError):
    """The order's lines do not make an order."""


class InvalidQuantity(DomainError):
    """A quantity outside what can be bought or sold."""

    @classmethod
    def outside(cls, quantity: int, *, least: int, most: int) -> "InvalidQuantity":
        rule = f"at least {least}" if quantity < least else f"at most {most}"
        return cls(
            f"quantity must be {rule}, got {quantity}",
            {"field": "quantity", "quantity": quantity},
        )


class InvalidSku(DomainError):
    """No batch of this product was ever announced."""

    @classmethod
    def of(cls, skus: Sequence[str]) -> "InvalidSku":
        return cls(
            f"no product has sku {', '.join(map(repr, skus))}; create a batch of it first",
            {"skus": list(skus)},
        )


class BatchConflict(DomainError):
    """The reference belongs to a batch with other contents."""

    @classmethod
    def of(cls, reference: str) -> "BatchConflict":
        return cls(
            f"batch {reference!r} exists with other contents;"
            " change its quantity or eta, or choose another reference",
            {"reference": reference},
        )


class BatchNotFound(DomainError):
    """No batch has this reference."""

    @classmethod
    def of(cls, reference: str) -> "BatchNotFound":
        return cls(f"no batch has reference {reference!r}", {"reference": reference})


class OrderConflict(DomainError):
    """The order id belongs to an order with other contents."""

    @classmethod
    def of(cls, order_id: str) -> "OrderConflict":
        return cls(
            f"order {order_id!r} exists with other contents;"
            " change its lines, or choose another order id",
            {"order_id": order_id},
        )


class OrderNotFound(DomainError):
    """No order has this id."""

    @classmethod
    def of(cls, order_id: str) -> "OrderNotFound":
        return cls(f"no order has id {order_id!r}", {"order_id": order_id})


class LineNotFound(DomainError):
    """The order has no such line."""

    @classmethod
    def of(cls, order_id: str, line_id: str) -> "LineNotFound":
        return cls(
            f"order {order_id!r} has no line {line_id!r}",
            {"order_id": order_id, "line_id": line_id},
        )


class LineClosed(DomainError):
    """The line was cancelled or refused, so it has no quantity to change."""

    @classmethod
    def of(cls, order_id: str, line_id: str, state: str) -> "LineClosed":
        return cls(
            f"line {line_id!r} of order {order_id!r} is {state}; place it in a new order",
            {"order_id": order_id, "line_id": line_id, "state": state},
        )


class QuantityTooLow(DomainError):
    """The cut would take stock from lines that it was told to leave alone."""

    @classmethod
    def of(cls, reference: str, *, quantity: int, allocated: int) -> "QuantityTooLow":
        return cls(
            f"batch {reference!r} has {allocated} allocated, so it cannot be cut to {quantity};"
            f" keep at least {allocated}, or send displace=true to move those lines",
            {"reference": reference, "quantity": quantity, "allocated": allocated},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A line that could not have what it asked for."""

    line_id: str
    sku: str
    requested: int
    """Units that the line still wants."""
    available: int
    """Units of the product that this order found, in all batches together."""
    earliest_eta: date | None
    """When known batches together would cover it; null where none would, or all are on hand."""

    def __str__(self) -> str:
        spread = ", in no batch whole" if self.available >= self.requested else ""
        return (
            f"line {self.line_id} wants {self.requested} of {self.sku},"
            f" {self.available} available{spread}"
        )

    def as_json(self) -> dict[str, object]:
        eta = self.earliest_eta
        return {**asdict(self), "earliest_eta": eta.isoformat() if eta else None}


class OutOfStock(DomainError):
    """Some lines cannot be served, so the order is not."""

    @classmethod
    def of(cls, order_id: str, shortages: Sequence[Shortage]) -> "OutOfStock":
        short = "; ".join(str(shortage) for shortage in shortages[:3])
        more = f" and {len(shortages) - 3} more" if len(shortages) > 3 else ""  # noqa: PLR2004  shown, not reckoned with
        return cls(
            f"order {order_id!r} is short: {short}{more}",
            {"order_id": order_id, "lines": [shortage.as_json() for shortage in shortages]},
        )
