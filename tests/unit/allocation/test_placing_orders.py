"""Orders are placed, refused and sent again."""

from typing import Any

import pytest

from domain.allocation import events
from domain.allocation.commands import (
    CancelOrder,
    ChangeBatchQuantity,
    ChangeLineQuantity,
    DeallocateLine,
    Policy,
)
from domain.allocation.events import (
    AllocatedLine,
    LineBackordered,
    OrderAllocated,
    Portion,
)
from domain.allocation.strategies import Strategy
from tests.fakes.allocation_builders import (
    SPRING,
    SUMMER,
    a_backorder,
    a_batch,
    a_partial_order,
    an_order,
    answer,
    handle,
    handle_together,
    refusal,
    told,
)
from tests.fakes.stock import FakeAllocationWork
from tests.stock_audit import Books


@pytest.fixture
def work() -> FakeAllocationWork:
    return FakeAllocationWork()


def books_of(work: FakeAllocationWork) -> Books:
    books = work.stock.books()
    books.audit()
    return books


def states(work: FakeAllocationWork, order_id: str = "o1") -> dict[str, str]:
    return {
        line_id: row.state
        for (order, line_id), row in books_of(work).lines.items()
        if order == order_id
    }


class TestAllocateOrder:
    def test_answers_with_state_and_batches_of_each_line(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 5, eta=SPRING), a_batch("b2", 5, sku="CHAIR"))

        [outcome] = handle(work, an_order("o1", 2, ("CHAIR", 1)))

        assert answer(outcome) == {
            "order_id": "o1",
            "state": "allocated",
            "lines": [
                {
                    "line_id": "1",
                    "sku": "LAMP",
                    "quantity": 2,
                    "state": "allocated",
                    "batches": [{"reference": "b1", "quantity": 2, "eta": "2030-04-01"}],
                },
                {
                    "line_id": "2",
                    "sku": "CHAIR",
                    "quantity": 1,
                    "state": "allocated",
                    "batches": [{"reference": "b2", "quantity": 1, "eta": None}],
                },
            ],
        }

    def test_moves_stock_and_tells_lines_and_order(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 5), a_batch("b2", 5, sku="CHAIR"))

        handle(work, an_order("o1", 2, ("CHAIR", 1)))

        moves = books_of(work).movements[2:]
        assert [(m.batch_reference, m.before, m.after, m.line_id, m.cause) for m in moves] == [
            ("b1", 0, 2, "1", "order_allocated"),
            ("b2", 0, 1, "2", "order_allocated"),
        ]
        assert work.events[2:] == [
            OrderAllocated(
                order_id="o1",
                lines=(
                    AllocatedLine(
                        line_id="1",
                        sku="LAMP",
                        portions=(Portion(batch="b1", quantity=2, eta=None),),
                    ),
                    AllocatedLine(
                        line_id="2",
                        sku="CHAIR",
                        portions=(Portion(batch="b2", quantity=1, eta=None),),
                    ),
                ),
            ),
        ]

    def test_keeps_strategy_and_ranking_with_each_portion(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 2), a_batch("b2", 3, eta=SPRING))

        handle(work, an_order("o1", 4, may_split=True, strategy=Strategy.SMALLEST))

        ranking = (("b1", 2, None), ("b2", 3, SPRING))
        assert {
            key[2]: (row.strategy, row.ranking) for key, row in books_of(work).allocations.items()
        } == {"b1": ("smallest", ranking), "b2": ("smallest", ranking)}

    def test_takes_no_lock_where_all_is_found(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 5))
        work.stock.calls.clear()

        handle(work, an_order("o1", 2))

        assert work.stock.calls == ["orders", "glance", "save"]

    def test_of_an_unknown_product_is_refused_and_not_put_on_record(
        self, work: FakeAllocationWork
    ) -> None:
        handle(work, a_batch("b1", 5))

        [outcome] = handle(work, an_order("o1", 1, ("DESK", 1), ("DESK", 2), ("ROPE", 1)))

        assert refusal(outcome) == ("InvalidSku", {"skus": ["DESK", "ROPE"]})
        assert books_of(work).orders == []
        assert len(work.events) == 1

    def test_finds_a_product_that_has_only_an_empty_batch(self, work: FakeAllocationWork) -> None:
        *_, outcome = handle(work, a_batch("b1", 0), an_order("o1", 1))

        assert refusal(outcome)[0] == "OutOfStock"


class TestTwoLinesOfOneSku:
    def test_are_two_lines(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 5), an_order("o1", 2, 2))

        assert [books_of(work).held_by("o1", line) for line in ("1", "2")] == [{"b1": 2}] * 2

    def test_are_never_both_served_from_what_is_enough_for_one(
        self, work: FakeAllocationWork
    ) -> None:
        *_, outcome = handle(work, a_batch("b1", 10), an_order("o1", 6, 6))

        assert refusal(outcome) == (
            "OutOfStock",
            {
                "order_id": "o1",
                "lines": [
                    {
                        "line_id": "2",
                        "sku": "LAMP",
                        "requested": 6,
                        "available": 10,
                        "earliest_eta": None,
                    }
                ],
            },
        )
        assert books_of(work).batches["b1"].allocated == 0

    def test_may_go_to_two_batches(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 6), a_batch("b2", 6), an_order("o1", 6, 6))

        assert [books_of(work).held_by("o1", line) for line in ("1", "2")] == [
            {"b1": 6},
            {"b2": 6},
        ]


class TestAllOrNothing:
    def test_refuses_and_names_every_short_line(self, work: FakeAllocationWork) -> None:
        handle(
            work,
            a_batch("b1", 3),
            a_batch("b2", 4, eta=SUMMER),
            a_batch("b3", 2, sku="CHAIR"),
            a_batch("b4", 9, sku="DESK"),
        )

        [outcome] = handle(work, an_order("o1", 6, ("CHAIR", 3), ("DESK", 1)))

        assert refusal(outcome) == (
            "OutOfStock",
            {
                "order_id": "o1",
                "lines": [
                    {
                        "line_id": "1",
                        "sku": "LAMP",
                        "requested": 6,
                        "available": 7,
                        "earliest_eta": "2030-07-01",
                    },
                    {
                        "line_id": "2",
                        "sku": "CHAIR",
                        "requested": 3,
                        "available": 2,
                        "earliest_eta": None,
                    },
                ],
            },
        )

    def test_refused_holds_nothing_and_is_told_once(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 3), a_batch("b2", 9, sku="CHAIR"))
        before = books_of(work)

        handle(work, an_order("o1", 6, ("CHAIR", 1)))

        books = books_of(work)
        assert (books.batches, books.movements) == (before.batches, before.movements)
        assert states(work) == {"1": "rejected", "2": "rejected"}
        assert [event.name for event in work.events[2:]] == ["OutOfStock"]

    def test_refusal_is_decided_twice_the_second_time_under_the_products_lock(
        self, work: FakeAllocationWork
    ) -> None:
        handle(work, a_batch("b1", 3))
        work.stock.calls.clear()

        handle(work, an_order("o1", 6))

        assert work.stock.calls == ["orders", "glance", "hold", "save"]

    def test_message_counts_lines_beyond_three(self, work: FakeAllocationWork) -> None:
        *_, outcome = handle(work, a_batch("b1", 0), an_order("o1", 1, 1, 1, 1, 1))

        assert str(outcome.error).endswith("and 2 more")  # type: ignore[union-attr]
        assert len(refusal(outcome)[1]["lines"]) == 5


class TestPartial:
    def test_gives_lines_that_can_be_served_and_refuses_the_rest(
        self, work: FakeAllocationWork
    ) -> None:
        handle(work, a_batch("b1", 3), a_batch("b2", 9, sku="CHAIR"))

        [outcome] = handle(work, a_partial_order("o1", 6, ("CHAIR", 1)))

        assert answer(outcome)["state"] == "partially_allocated"
        assert states(work) == {"1": "rejected", "2": "allocated"}
        [shortage] = [event for event in work.events if isinstance(event, events.OutOfStock)]
        assert [line.line_id for line in shortage.lines] == ["1"]

    def test_gives_a_line_that_may_split_what_there_is(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 3), a_batch("b2", 2), a_partial_order("o1", 6, may_split=True))

        assert books_of(work).held_by("o1", "1") == {"b1": 3, "b2": 2}
        assert states(work) == {"1": "partially_allocated"}

    def test_does_not_wait_for_the_rest(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 3), a_partial_order("o1", 6, may_split=True), a_batch("b2", 9))

        assert books_of(work).held_by("o1", "1") == {"b1": 3}

    def test_is_refused_where_no_line_gets_anything(self, work: FakeAllocationWork) -> None:
        *_, outcome = handle(work, a_batch("b1", 3), a_partial_order("o1", 6, 4))

        assert refusal(outcome)[0] == "OutOfStock"
        assert states(work) == {"1": "rejected", "2": "rejected"}


class TestBackorder:
    def test_gives_lines_that_can_be_served_and_lets_the_rest_wait(
        self, work: FakeAllocationWork
    ) -> None:
        handle(work, a_batch("b1", 3), a_batch("b2", 9, sku="CHAIR"))

        [outcome] = handle(work, a_backorder("o1", 6, ("CHAIR", 1)))

        assert answer(outcome)["state"] == "backordered"
        assert states(work) == {"1": "backordered", "2": "allocated"}
        assert work.events[-1] == LineBackordered(
            order_id="o1", line_id="1", sku="LAMP", outstanding=6
        )

    def test_gives_a_line_that_may_split_what_there_is(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 3), a_backorder("o1", 6, may_split=True))

        assert books_of(work).held_by("o1", "1") == {"b1": 3}
        assert work.events[-1] == LineBackordered(
            order_id="o1", line_id="1", sku="LAMP", outstanding=3
        )

    def test_is_decided_twice_the_second_time_under_the_products_lock(
        self, work: FakeAllocationWork
    ) -> None:
        handle(work, a_batch("b1", 3))
        work.stock.calls.clear()

        handle(work, a_backorder("o1", 6))

        assert work.stock.calls == ["orders", "glance", "hold", "save"]

    def test_does_not_keep_a_new_order_from_what_it_cannot_use(
        self, work: FakeAllocationWork
    ) -> None:
        handle(work, a_batch("b1", 3), a_backorder("o1", 6, priority=9), an_order("o2", 3))

        assert states(work, "o2") == {"1": "allocated"}


class TestTheSameOrderAgain:
    @pytest.mark.parametrize("policy", Policy)
    @pytest.mark.parametrize("may_split", [True, False])
    def test_has_the_same_answer_without_effect_or_event(
        self, work: FakeAllocationWork, policy: Policy, *, may_split: bool
    ) -> None:
        order = an_order("o1", 6, 4, policy=policy, may_split=may_split)
        handle(work, a_batch("b2", 4), a_batch("b1", 4, eta=SPRING), a_batch("b3", 1, eta=SUMMER))
        [first] = handle(work, order)
        books, recorded = books_of(work), list(work.recorded)

        [again] = handle(work, order)

        assert told(again) == told(first)
        assert (books_of(work), work.recorded) == (books, recorded)

    @pytest.mark.parametrize(
        "change",
        [{"priority": 1}, {"may_split": True}, {"policy": Policy.PARTIAL}],
    )
    def test_with_other_contents_is_a_conflict(
        self, work: FakeAllocationWork, change: dict[str, Any]
    ) -> None:
        *_, terms, lines = handle(
            work, a_batch(), an_order("o1", 1), an_order("o1", 1, **change), an_order("o1", 2)
        )

        assert refusal(terms) == ("OrderConflict", {"order_id": "o1"})
        assert refusal(lines) == ("OrderConflict", {"order_id": "o1"})

    def test_with_other_contents_is_a_conflict_though_it_was_refused(
        self, work: FakeAllocationWork
    ) -> None:
        *_, other = handle(work, a_batch("b1", 1), an_order("o1", 2), an_order("o1", 1))

        assert refusal(other)[0] == "OrderConflict"

    def test_answers_with_what_it_has_by_now(self, work: FakeAllocationWork) -> None:
        *_, again = handle(
            work,
            a_batch("b1", 5),
            an_order("o1", 2),
            ChangeLineQuantity(order_id="o1", line_id="1", quantity=4),
            an_order("o1", 2),
        )

        assert answer(again)["lines"][0]["quantity"] == 4

    def test_does_not_revive_a_cancelled_order(self, work: FakeAllocationWork) -> None:
        *_, again = handle(
            work, a_batch("b1", 5), an_order("o1", 2), CancelOrder(order_id="o1"), an_order("o1", 2)
        )

        assert answer(again)["state"] == "cancelled"
        assert books_of(work).batches["b1"].allocated == 0

    def test_in_one_batch_of_jobs_is_placed_once(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 5))

        first, again, other = handle_together(
            work, an_order("o1", 2), an_order("o1", 2), an_order("o1", 3)
        )

        assert answer(again) == answer(first)
        assert refusal(other)[0] == "OrderConflict"
        assert books_of(work).batches["b1"].allocated == 2

    def test_refused_in_one_batch_of_jobs_is_told_once(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 1))

        first, again = handle_together(work, an_order("o1", 2), an_order("o1", 2))

        assert refusal(first) == refusal(again)
        assert [event.name for event in work.events[1:]] == ["OutOfStock"]


class TestARefusedOrderSentAgain:
    def test_is_decided_anew(self, work: FakeAllocationWork) -> None:
        order = an_order("o1", 6)
        *_, again = handle(work, a_batch("b1", 3), order, a_batch("b2", 6), order)

        assert answer(again)["state"] == "allocated"
        assert books_of(work).held_by("o1", "1") == {"b2": 6}
        assert work.events[-1] == OrderAllocated(
            order_id="o1",
            lines=(
                AllocatedLine(
                    line_id="1",
                    sku="LAMP",
                    portions=(Portion(batch="b2", quantity=6, eta=None),),
                ),
            ),
        )

    def test_is_decided_under_its_products_locks(self, work: FakeAllocationWork) -> None:
        order = an_order("o1", 6)
        handle(work, a_batch("b1", 3), order, a_batch("b2", 6))
        work.stock.calls.clear()

        handle(work, order)

        assert work.stock.calls == ["orders", "glance", "hold", "orders", "save"]

    def test_keeps_its_place_among_the_orders(self, work: FakeAllocationWork) -> None:
        first = an_order("o1", 6)
        handle(work, a_batch("b1", 3), first, an_order("o2", 3))
        handle(work, a_batch("b2", 9), first)

        handle(work, ChangeBatchQuantity(reference="b2", quantity=0))

        assert books_of(work).orders == ["o1", "o2"]
        assert states(work) == {"1": "backordered"}

    def test_leaves_a_cancelled_line_cancelled(self, work: FakeAllocationWork) -> None:
        order = an_order("o1", 6, 1)
        *_, again = handle(
            work,
            a_batch("b1", 3),
            order,
            DeallocateLine(order_id="o1", line_id="1"),
            order,
        )

        assert states(work) == {"1": "cancelled", "2": "allocated"}
        assert answer(again)["state"] == "allocated"

    def test_is_refused_again_for_its_open_lines_alone(self, work: FakeAllocationWork) -> None:
        order = an_order("o1", 6, 4)
        handle(work, a_batch("b1", 3), order, DeallocateLine(order_id="o1", line_id="1"))
        count = len(work.events)

        [again] = handle(work, order)

        code, details = refusal(again)
        assert (code, [line["line_id"] for line in details["lines"]]) == ("OutOfStock", ["2"])
        assert states(work) == {"1": "cancelled", "2": "rejected"}
        assert len(work.events) == count

    def test_does_not_revive_what_was_taken_out_of_a_partial_order(
        self, work: FakeAllocationWork
    ) -> None:
        order = a_partial_order("o1", 3, 9)
        handle(work, a_batch("b1", 3), order, DeallocateLine(order_id="o1", line_id="1"))

        [again] = handle(work, order)

        assert refusal(again)[0] == "OutOfStock"
        assert states(work) == {"1": "cancelled", "2": "rejected"}


class TestOrdersHandledTogether:
    def test_take_from_one_batch_one_after_the_other(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 10))

        outcomes = handle_together(work, *(an_order(f"o{number}", 4) for number in range(4)))

        assert [type(outcome).__name__ for outcome in outcomes] == [
            "Succeeded",
            "Succeeded",
            "Rejected",
            "Rejected",
        ]
        assert [(m.before, m.after) for m in books_of(work).movements[1:]] == [(0, 4), (4, 8)]

    def test_are_refused_alone_where_one_of_them_is_wrong(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 10))

        good, unknown, short = handle_together(
            work, an_order("o1", 4), an_order("o2", ("DESK", 1)), an_order("o3", 9)
        )

        assert answer(good)["state"] == "allocated"
        assert (refusal(unknown)[0], refusal(short)[0]) == ("InvalidSku", "OutOfStock")
        assert books_of(work).orders == ["o1", "o3"]

    def test_may_be_refused_and_then_placed_where_others_change_the_packing(
        self, work: FakeAllocationWork
    ) -> None:
        order = an_order("o1", 2, 7, 1, 4, 3, strategy=Strategy.SMALLEST)
        other = an_order("o2", 1, strategy=Strategy.SMALLEST)
        handle(work, a_batch("b1", 2), a_batch("b2", 6), a_batch("b3", 10))

        refused, _, placed = handle_together(work, order, other, order)

        assert refusal(refused)[0] == "OutOfStock"
        assert answer(placed)["state"] == "allocated"
        assert set(states(work).values()) == {"allocated"}
