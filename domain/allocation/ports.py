"""What allocation needs from outside, within one transaction."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from domain.allocation.orders import Order, OrderLine
from domain.allocation.products import Product
from domain.allocation.tally import Tally
from domain.messages import Event


class Stock(Protocol):
    """Products, batches, orders and lines.

    Locks are always taken in one order, products by SKU, then batches by reference, so that
    two transactions never wait for each other.
    """

    def look(
        self, order_ids: Collection[str], skus: Collection[str]
    ) -> tuple[dict[str, Order], dict[str, Product]]:
        """Read these `orders`, and `glance` at these products, in less time than one by one."""

    def glance(self, skus: Collection[str]) -> dict[str, Product]:
        """Read products and their batches that have units free, without a lock."""

    def hold(self, skus: Collection[str], *, batches: bool) -> dict[str, Product]:
        """Lock products (and, with `batches`, their batches), then read them."""

    def introduce(self, skus: Collection[str]) -> None:
        """Make products known that are not."""

    def skus_of(self, references: Collection[str]) -> Mapping[str, str]:
        """Return the SKU of each of these batches that exists."""

    def orders(self, order_ids: Collection[str]) -> dict[str, Order]:
        """Read these orders with all lines and allocations."""

    def waiting(self, skus: Collection[str]) -> list[OrderLine]:
        """Read the backordered lines of these products."""

    def holders(self, reference: str) -> list[OrderLine]:
        """Read the lines that hold units of this batch."""

    def complete(self, order_ids: Collection[str]) -> list[str]:
        """Lock these orders in order of id; return those that have all their lines ask for.

        Who completes an order is the last to lock it, so of several exactly one is told.
        """

    def save(self, tallies: Iterable[Tally]) -> None:
        """Write all that the tallies count; batches are touched last, in reference order.

        Raises:
            StaleDecision: A batch has too few units left or another eta than was seen, or a new
                batch or order exists by now. At the latest when the work is committed.
        """


class AllocationWork(Protocol):
    """The slice of a unit of work that allocation needs."""

    @property
    def stock(self) -> Stock: ...

    @property
    def locks_first(self) -> bool:
        """True where a decision without locks went stale: lock, then look."""

    def record(self, job_id: str, events: Iterable[Event]) -> None: ...
