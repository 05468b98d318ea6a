"""A product decides who may have which of its stock."""

from datetime import date
from typing import Any

import pytest

from domain.allocation.batches import Batch
from domain.allocation.errors import Shortage
from domain.allocation.events import LineAllocated, LineDeallocated, Portion
from domain.allocation.orders import LineState, OrderLine, Terms
from domain.allocation.products import Choice, Product
from domain.allocation.strategies import Strategy
from domain.allocation.tally import Cause, Tally
from tests.fakes.allocation_builders import SPRING, SUMMER

SPLIT = Terms(may_split=True)
WHOLE = Terms()


def a_product(*said: tuple[str, int] | tuple[str, int, date | None]) -> Product:
    product = Product(sku="LAMP")
    for reference, quantity, *eta in said:
        product.batches[reference] = Batch(
            reference=reference, sku="LAMP", purchased=quantity, eta=eta[0] if eta else None
        )
    return product


def a_line(quantity: int, line_id: str = "1", **terms: Any) -> OrderLine:
    return OrderLine(
        order_id="o1", line_id=line_id, sku="LAMP", quantity=quantity, terms=Terms(**terms)
    )


def picks(choice: Choice | None) -> list[tuple[str, int]] | None:
    return [(batch.reference, quantity) for batch, quantity in choice.picks] if choice else None


class TestBatch:
    def test_can_allocate_what_it_has_free_and_no_more(self) -> None:
        batch = Batch(reference="b1", sku="LAMP", purchased=10, allocated=4)

        assert batch.available == 6
        assert [batch.can_allocate(quantity) for quantity in (5, 6, 7)] == [True, True, False]


class TestChoose:
    def test_prefers_stock_on_hand_to_shipments(self) -> None:
        product = a_product(("b1", 10, SPRING), ("b2", 10))

        assert picks(product.choose(3, terms=WHOLE)) == [("b2", 3)]

    def test_prefers_the_earliest_shipment(self) -> None:
        product = a_product(("b1", 10, SUMMER), ("b2", 10, SPRING))

        assert picks(product.choose(3, terms=WHOLE)) == [("b2", 3)]

    def test_takes_the_first_batch_that_fits_whole(self) -> None:
        product = a_product(("b1", 2), ("b2", 4), ("b3", 9, SPRING))

        assert picks(product.choose(4, terms=WHOLE)) == [("b2", 4)]
        assert picks(product.choose(5, terms=WHOLE)) == [("b3", 5)]

    def test_keeps_a_line_whole_where_it_may_split_but_need_not(self) -> None:
        product = a_product(("b1", 2), ("b2", 9, SPRING))

        assert picks(product.choose(5, terms=SPLIT)) == [("b2", 5)]

    def test_splits_over_batches_in_rank_order_where_the_order_may(self) -> None:
        product = a_product(("b1", 2, SPRING), ("b2", 3), ("b3", 4, SUMMER))

        assert picks(product.choose(7, terms=SPLIT)) == [("b2", 3), ("b1", 2), ("b3", 2)]
        assert product.choose(7, terms=WHOLE) is None

    def test_splits_smallest_first_with_that_strategy(self) -> None:
        product = a_product(("b1", 5), ("b2", 3, SUMMER), ("b3", 4, SPRING))
        terms = Terms(may_split=True, strategy=Strategy.SMALLEST)

        assert picks(product.choose(8, terms=terms)) == [("b2", 3), ("b3", 4), ("b1", 1)]
        assert picks(product.choose(4, terms=terms)) == [("b3", 4)]

    @pytest.mark.parametrize("partly", [True, False])
    def test_finds_nothing_where_nothing_is_free(self, partly: bool) -> None:  # noqa: FBT001  a parameter
        product = a_product(("b1", 0), ("b2", 3))
        product.batches["b2"].allocated = 3

        assert product.choose(1, terms=SPLIT, partly=partly) is None

    def test_makes_do_with_less_only_where_asked_and_where_it_may_split(self) -> None:
        product = a_product(("b1", 2), ("b2", 3))

        assert picks(product.choose(9, terms=SPLIT, partly=True)) == [("b1", 2), ("b2", 3)]
        assert product.choose(9, terms=SPLIT) is None
        assert product.choose(9, terms=WHOLE, partly=True) is None

    def test_keeps_the_ranking_it_saw_without_empty_batches(self) -> None:
        product = a_product(("b1", 2), ("b2", 9, SPRING), ("b3", 0))

        choice = product.choose(5, terms=WHOLE)

        assert choice is not None
        assert choice.ranking == (("b1", 2, None), ("b2", 9, SPRING))

    def test_changes_nothing(self) -> None:
        product = a_product(("b1", 2))

        product.choose(1, terms=WHOLE)

        assert product.available == 2


class TestAllocate:
    def test_gives_all_counts_it_and_tells_it(self) -> None:
        product, tally = a_product(("b1", 2), ("b2", 3, SPRING)), Tally(job_id="j")
        line = a_line(4, may_split=True)

        assert product.allocate(line, tally, cause=Cause.ORDER_ALLOCATED)

        assert line.state is LineState.ALLOCATED
        assert [(a.batch_reference, a.quantity, a.eta) for a in line.allocations.values()] == [
            ("b1", 2, None),
            ("b2", 2, SPRING),
        ]
        assert [batch.allocated for batch in product.batches.values()] == [2, 2]
        assert [(move.batch_reference, move.change) for move in tally.movements] == [
            ("b1", 2),
            ("b2", 2),
        ]
        assert tally.lines == {line.identity: line}
        assert tally.events == [
            LineAllocated(
                order_id="o1",
                line_id="1",
                sku="LAMP",
                portions=(
                    Portion(batch="b1", quantity=2, eta=None),
                    Portion(batch="b2", quantity=2, eta=SPRING),
                ),
            )
        ]

    def test_does_nothing_where_it_cannot(self) -> None:
        product, tally = a_product(("b1", 2)), Tally(job_id="j")

        assert not product.allocate(a_line(3), tally, cause=Cause.ORDER_ALLOCATED)

        assert tally.is_empty
        assert product.available == 2

    def test_keeps_strategy_and_ranking_with_the_allocation(self) -> None:
        product, tally = a_product(("b1", 5), ("b2", 3)), Tally(job_id="j")
        line = a_line(2, strategy=Strategy.SMALLEST)

        product.allocate(line, tally, cause=Cause.ORDER_ALLOCATED)

        [allocation] = line.allocations.values()
        assert allocation.strategy is Strategy.SMALLEST
        assert allocation.ranking == (("b2", 3, None), ("b1", 5, None))

    def test_grows_a_line_that_may_not_split_on_its_own_batch(self) -> None:
        product, tally = a_product(("b1", 9), ("b2", 9)), Tally(job_id="j")
        line = a_line(2)
        product.batches["b1"].allocated = 9
        product.allocate(line, tally, cause=Cause.ORDER_ALLOCATED)
        product.batches["b1"].allocated = 0
        line.quantity = 5

        assert product.allocate(line, tally, cause=Cause.LINE_CHANGED)

        assert {a.batch_reference: a.quantity for a in line.allocations.values()} == {"b2": 5}

    def test_moves_a_line_that_may_not_split_as_a_whole(self) -> None:
        product, tally = a_product(("b1", 3), ("b2", 9, SPRING)), Tally(job_id="j")
        line = a_line(2)
        product.allocate(line, tally, cause=Cause.ORDER_ALLOCATED)
        line.quantity = 5

        assert product.allocate(line, tally, cause=Cause.BACKORDER_SERVED)

        assert {a.batch_reference: a.quantity for a in line.allocations.values()} == {"b2": 5}
        assert [batch.allocated for batch in product.batches.values()] == [0, 5]


class TestTakeBack:
    def test_takes_what_arrives_last_first(self) -> None:
        product, tally = (
            a_product(("b1", 2, SPRING), ("b2", 2), ("b3", 2, SUMMER)),
            Tally(job_id=""),
        )
        line = a_line(6, may_split=True)
        product.allocate(line, tally, cause=Cause.ORDER_ALLOCATED)

        product.take_back(line, tally, cause=Cause.LINE_CHANGED, quantity=3)

        assert {a.batch_reference: a.quantity for a in line.allocations.values()} == {
            "b2": 2,
            "b1": 1,
        }
        assert tally.events[-1] == LineDeallocated(
            order_id="o1",
            line_id="1",
            sku="LAMP",
            portions=(
                Portion(batch="b3", quantity=2, eta=SUMMER),
                Portion(batch="b1", quantity=1, eta=SPRING),
            ),
            cause=Cause.LINE_CHANGED,
        )

    def test_takes_from_one_batch_where_told(self) -> None:
        product, tally = a_product(("b1", 2), ("b2", 2, SPRING)), Tally(job_id="j")
        line = a_line(4, may_split=True)
        product.allocate(line, tally, cause=Cause.ORDER_ALLOCATED)

        product.take_back(line, tally, cause=Cause.DISPLACED, only="b1")

        assert list(line.allocations) == ["b2"]
        assert [batch.allocated for batch in product.batches.values()] == [0, 2]

    @pytest.mark.parametrize("quantity", [0, None])
    def test_tells_nothing_where_there_is_nothing(self, quantity: int | None) -> None:
        tally = Tally(job_id="j")

        a_product().take_back(a_line(1), tally, cause=Cause.LINE_CHANGED, quantity=quantity)

        assert tally.events == []
        assert tally.movements == []


class TestShortage:
    def test_names_the_day_on_which_known_batches_cover_it_together(self) -> None:
        product = a_product(("b1", 2, SUMMER), ("b2", 3), ("b3", 2, SPRING))

        def eta_of(quantity: int) -> date | None:
            return product.shortage(a_line(quantity), available=7).earliest_eta

        assert [eta_of(quantity) for quantity in (3, 4, 6, 8)] == [None, SPRING, SUMMER, None]

    def test_names_line_and_quantities(self) -> None:
        assert a_product(("b1", 2)).shortage(a_line(3), available=2) == Shortage(
            line_id="1", sku="LAMP", requested=3, available=2, earliest_eta=None
        )


class TestServe:
    def test_goes_round_again_when_a_line_that_moved_whole_has_freed_units(self) -> None:
        product, tally = a_product(("b1", 15)), Tally(job_id="j")
        first, mover = a_line(10, "first", sequence=1), a_line(5, "mover", sequence=2)
        for line, wanted in ((first, 14), (mover, 9)):
            product.allocate(line, tally, cause=Cause.ORDER_ALLOCATED)
            line.quantity = wanted
            product.backorder(line, tally)
        product.batches["b2"] = Batch(reference="b2", sku="LAMP", purchased=9)

        product.serve([mover, first], tally)

        assert [(line.state, list(line.allocations)) for line in (first, mover)] == [
            (LineState.ALLOCATED, ["b1"]),
            (LineState.ALLOCATED, ["b2"]),
        ]
