"""What has happened to stock and orders; written to the outbox."""

from dataclasses import dataclass
from datetime import date

from domain.allocation.errors import Shortage
from domain.messages import Event, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion(Message):
    """Units of one batch that serve a line."""

    batch: str
    quantity: int
    eta: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductEvent(Event):
    """An event of one product."""

    sku: str

    @property
    def aggregate(self) -> str:
        return f"product:{self.sku}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent(Event):
    """An event of one order."""

    order_id: str

    @property
    def aggregate(self) -> str:
        return f"order:{self.order_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCreated(ProductEvent):
    """A batch was announced."""

    reference: str
    quantity: int
    eta: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatedLine(Message):
    """What a line of an order was given."""

    line_id: str
    sku: str
    portions: tuple[Portion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAllocated(OrderEvent):
    """Every line of the order has all it asked for; `lines` is what this very event gave them."""

    lines: tuple[AllocatedLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LineAllocated(OrderEvent):
    """A line has been given stock; `portions` is what was added now."""

    line_id: str
    sku: str
    portions: tuple[Portion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineDeallocated(OrderEvent):
    """Stock was taken from a line; `portions` is what was taken now."""

    line_id: str
    sku: str
    portions: tuple[Portion, ...]
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineBackordered(OrderEvent):
    """A line waits for `outstanding` units."""

    line_id: str
    sku: str
    outstanding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfStock(OrderEvent):
    """Lines of the order were refused for want of stock."""

    lines: tuple[Shortage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled(OrderEvent):
    """The order was cancelled and holds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseDateChanged(OrderEvent):
    """The day a line can be served moved; null is now, from stock on hand."""

    line_id: str
    sku: str
    before: date | None
    after: date | None
