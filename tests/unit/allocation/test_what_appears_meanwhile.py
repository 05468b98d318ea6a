"""What comes into being while products are locked is not held, so it is not touched."""

from collections.abc import Callable, Collection

import pytest

from domain.allocation.commands import CancelOrder, ChangeBatchQuantity
from domain.allocation.products import Product
from domain.errors import StaleDecision
from domain.messages import Command
from tests.fakes.allocation_builders import (
    a_backorder,
    a_batch,
    an_order,
    handle,
    handle_together,
    refusal,
)
from tests.fakes.stock import FakeAllocationWork, FakeStock


class InterruptedStock(FakeStock):
    """Lets something happen just before products are locked, once."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] = lambda: None

    def hold(self, skus: Collection[str], *, batches: bool) -> dict[str, Product]:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return super().hold(skus, batches=batches)


@pytest.fixture
def stock() -> InterruptedStock:
    return InterruptedStock()


def others_do(stock: InterruptedStock, *commands: Command) -> None:
    """Let others handle commands when products are next locked."""
    stock.meanwhile = lambda: handle(FakeAllocationWork(stock), *commands)


class TestAnOrderThatAppears:
    def test_is_not_found_by_its_cancellation(self, stock: InterruptedStock) -> None:
        work = FakeAllocationWork(stock)
        handle(work, a_batch("b1", 5))
        others_do(stock, a_backorder("o1", 4))

        [outcome] = handle(work, CancelOrder(order_id="o1"))

        assert refusal(outcome) == ("OrderNotFound", {"order_id": "o1"})
        assert stock.books().held_by("o1", "1") == {"b1": 4}

    def test_makes_placing_it_stale_though_another_of_the_batch_was_known(
        self, stock: InterruptedStock
    ) -> None:
        work = FakeAllocationWork(stock)
        known, new = an_order("o1", 9), an_order("o2", ("CHAIR", 9))
        handle(work, a_batch("b1", 5), a_batch("b2", 5, sku="CHAIR"), known)
        others_do(stock, new)

        with pytest.raises(StaleDecision, match="placed meanwhile"):
            handle_together(work, known, new)


class TestABatchThatAppears:
    def test_is_not_found_by_its_change(self, stock: InterruptedStock) -> None:
        work = FakeAllocationWork(stock)
        others_do(stock, a_batch("b1", 5))

        [outcome] = handle(work, ChangeBatchQuantity(reference="b1", quantity=1))

        assert refusal(outcome) == ("BatchNotFound", {"reference": "b1"})

    def test_makes_creating_it_with_other_contents_stale(self, stock: InterruptedStock) -> None:
        work = FakeAllocationWork(stock)
        others_do(stock, a_batch("b1", 5, sku="CHAIR"))

        with pytest.raises(StaleDecision, match="created meanwhile"):
            handle(work, a_batch("b1", 5))

    def test_serves_an_order_that_was_short_of_it(self, stock: InterruptedStock) -> None:
        work = FakeAllocationWork(stock)
        handle(work, a_batch("b1", 1))
        others_do(stock, a_batch("b2", 5))

        handle(work, an_order("o1", 5))

        assert stock.books().held_by("o1", "1") == {"b2": 5}

    def test_makes_an_order_stale_that_was_served_but_is_now_short_of_another_product(
        self, stock: InterruptedStock
    ) -> None:
        work = FakeAllocationWork(stock)
        handle(work, a_batch("b1", 1), a_batch("b2", 5, sku="CHAIR"))
        others_do(stock, an_order("o9", ("CHAIR", 5)))

        with pytest.raises(StaleDecision, match=r"short of \['CHAIR'\] too"):
            handle(work, a_backorder("o1", 5, ("CHAIR", 5)))
