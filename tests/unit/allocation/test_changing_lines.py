"""Lines grow, shrink and leave; orders are cancelled."""

import pytest

from domain.allocation.commands import (
    CancelOrder,
    ChangeLineQuantity,
    DeallocateLine,
    Policy,
)
from domain.allocation.events import (
    LineBackordered,
    LineDeallocated,
    OrderCancelled,
    Portion,
    PromiseDateChanged,
)
from domain.jobs.outcomes import Outcome
from domain.messages import Command
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


def state_of(work: FakeAllocationWork, order_id: str = "o1", line_id: str = "1") -> str:
    return books_of(work).lines[order_id, line_id].state


def resize(quantity: int, order_id: str = "o1", line_id: str = "1") -> ChangeLineQuantity:
    return ChangeLineQuantity(order_id=order_id, line_id=line_id, quantity=quantity)


def withdraw(order_id: str = "o1", line_id: str = "1") -> DeallocateLine:
    return DeallocateLine(order_id=order_id, line_id=line_id)


def last(work: FakeAllocationWork, *commands: Command) -> Outcome:
    return handle(work, *commands)[-1]


class TestALineThatShrinks:
    def test_releases_its_surplus(self, work: FakeAllocationWork) -> None:
        outcome = last(work, a_batch("b1", 10), an_order("o1", 6), resize(2))

        assert answer(outcome)["lines"][0]["quantity"] == 2
        assert books_of(work).held_by("o1", "1") == {"b1": 2}
        movement = books_of(work).movements[-1]
        assert (movement.cause, movement.before, movement.after) == ("line_changed", 6, 2)

    def test_gives_up_what_arrives_last_and_hears_of_its_new_promise(
        self, work: FakeAllocationWork
    ) -> None:
        handle(
            work,
            a_batch("b1", 3, eta=SPRING),
            a_batch("b2", 3, eta=SUMMER),
            an_order("o1", 6, may_split=True),
            resize(2),
        )

        assert books_of(work).held_by("o1", "1") == {"b1": 2}
        assert work.events[-2:] == [
            LineDeallocated(
                order_id="o1",
                line_id="1",
                sku="LAMP",
                portions=(
                    Portion(batch="b2", quantity=3, eta=SUMMER),
                    Portion(batch="b1", quantity=1, eta=SPRING),
                ),
                cause="line_changed",
            ),
            PromiseDateChanged(order_id="o1", line_id="1", sku="LAMP", before=SUMMER, after=SPRING),
        ]

    def test_gives_its_surplus_to_who_waits(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 10), an_order("o1", 8), a_backorder("o2", 6), resize(4))

        assert state_of(work, "o2") == "allocated"

    def test_answers_with_its_neighbour_that_took_the_surplus(
        self, work: FakeAllocationWork
    ) -> None:
        outcome = last(work, a_batch("b1", 10), a_backorder("o1", 8, 6), resize(4))

        assert answer(outcome)["state"] == "allocated"
        assert [line["state"] for line in answer(outcome)["lines"]] == ["allocated"] * 2

    def test_to_what_it_has_waits_no_longer(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 4), a_backorder("o1", 8, may_split=True), resize(4))

        assert state_of(work) == "allocated"

    def test_below_what_it_has_releases_the_rest(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 4), a_partial_order("o1", 8, may_split=True), resize(3))

        assert (state_of(work), books_of(work).held_by("o1", "1")) == ("allocated", {"b1": 3})

    def test_above_what_it_has_stays_as_it_is(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 4), a_partial_order("o1", 8, may_split=True), resize(6))
        assert state_of(work) == "partially_allocated"

    def test_to_what_is_free_is_served(self, work: FakeAllocationWork) -> None:
        outcome = last(work, a_batch("b1", 4), a_backorder("o1", 8), resize(4))

        assert answer(outcome)["state"] == "allocated"
        assert books_of(work).movements[-1].cause == "backorder_served"


class TestALineThatGrows:
    def test_takes_more_of_the_batch_it_has(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 10, eta=SPRING), an_order("o1", 4))
        handle(work, a_batch("b2", 10), resize(9))

        assert books_of(work).held_by("o1", "1") == {"b1": 9}

    def test_moves_whole_where_it_may_not_split(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 5), an_order("o1", 4), a_batch("b2", 9, eta=SPRING), resize(9))

        assert books_of(work).held_by("o1", "1") == {"b2": 9}
        assert work.events[-1] == PromiseDateChanged(
            order_id="o1", line_id="1", sku="LAMP", before=None, after=SPRING
        )

    def test_leaves_its_old_batch_to_who_waits(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 5), an_order("o1", 4), a_backorder("o2", 5))

        handle(work, a_batch("b2", 4), resize(4), a_batch("b3", 9), resize(9))

        assert state_of(work, "o2") == "allocated"

    def test_draws_on_other_batches_where_it_may_split(self, work: FakeAllocationWork) -> None:
        handle(
            work,
            a_batch("b1", 5),
            an_order("o1", 4, may_split=True),
            a_batch("b2", 9, eta=SPRING),
            resize(9),
        )

        assert books_of(work).held_by("o1", "1") == {"b1": 4, "b2": 5}

    def test_is_refused_where_it_is_all_or_nothing(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 5), an_order("o1", 4))
        before, told = books_of(work), len(work.events)

        [outcome] = handle(work, resize(9))

        assert refusal(outcome) == (
            "OutOfStock",
            {
                "order_id": "o1",
                "lines": [
                    {
                        "line_id": "1",
                        "sku": "LAMP",
                        "requested": 5,
                        "available": 1,
                        "earliest_eta": None,
                    }
                ],
            },
        )
        assert (books_of(work), len(work.events)) == (before, told)

    def test_is_refused_where_it_is_partial_but_may_not_split(
        self, work: FakeAllocationWork
    ) -> None:
        outcome = last(work, a_batch("b1", 5), a_partial_order("o1", 4), resize(9))

        assert refusal(outcome)[0] == "OutOfStock"

    def test_gets_what_there_is_where_it_is_partial_and_may_split(
        self, work: FakeAllocationWork
    ) -> None:
        handle(work, a_batch("b1", 5), a_partial_order("o1", 4, may_split=True))

        handle(work, a_batch("b2", 2, eta=SPRING), resize(9))

        assert books_of(work).held_by("o1", "1") == {"b1": 5, "b2": 2}
        assert state_of(work) == "partially_allocated"
        assert work.events[-1] == PromiseDateChanged(
            order_id="o1", line_id="1", sku="LAMP", before=None, after=SPRING
        )

    def test_waits_with_what_it_has_where_it_may_be_backordered(
        self, work: FakeAllocationWork
    ) -> None:
        handle(work, a_batch("b1", 5), a_backorder("o1", 4), resize(9))

        assert (state_of(work), books_of(work).held_by("o1", "1")) == ("backordered", {"b1": 4})
        assert work.events[-1] == LineBackordered(
            order_id="o1", line_id="1", sku="LAMP", outstanding=5
        )

    def test_takes_what_there_is_meanwhile_where_it_may_split(
        self, work: FakeAllocationWork
    ) -> None:
        handle(work, a_batch("b1", 5), a_backorder("o1", 4, may_split=True), resize(9))

        assert (state_of(work), books_of(work).held_by("o1", "1")) == ("backordered", {"b1": 5})

    def test_while_it_waits_keeps_waiting(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 5), a_backorder("o1", 7), resize(9))
        assert state_of(work) == "backordered"

        handle(work, a_batch("b2", 9))
        assert (state_of(work), books_of(work).held_by("o1", "1")) == ("allocated", {"b2": 9})


class TestAChangeOfALine:
    def test_to_what_it_is_has_no_effect(self, work: FakeAllocationWork) -> None:
        first = last(work, a_batch("b1", 5), an_order("o1", 4))
        before, told = books_of(work), len(work.events)

        [outcome] = handle(work, resize(4))

        assert answer(outcome) == answer(first)
        assert (books_of(work), len(work.events)) == (before, told)

    @pytest.mark.parametrize("command", [resize(1), withdraw(), CancelOrder(order_id="o1")])
    def test_of_an_unknown_order_is_refused(
        self, work: FakeAllocationWork, command: Command
    ) -> None:
        assert refusal(last(work, command)) == ("OrderNotFound", {"order_id": "o1"})

    @pytest.mark.parametrize("command", [resize(1, line_id="9"), withdraw(line_id="9")])
    def test_of_an_unknown_line_is_refused(
        self, work: FakeAllocationWork, command: Command
    ) -> None:
        outcome = last(work, a_batch("b1", 5), an_order("o1", 4), command)

        assert refusal(outcome) == ("LineNotFound", {"order_id": "o1", "line_id": "9"})

    def test_that_was_refused_is_refused(self, work: FakeAllocationWork) -> None:
        outcome = last(work, a_batch("b1", 5), an_order("o1", 9), resize(1))

        assert refusal(outcome) == (
            "LineClosed",
            {"order_id": "o1", "line_id": "1", "state": "rejected"},
        )

    def test_that_was_withdrawn_is_refused(self, work: FakeAllocationWork) -> None:
        outcome = last(work, a_batch("b1", 5), an_order("o1", 4), withdraw(), resize(1))

        assert refusal(outcome)[1]["state"] == "cancelled"

    def test_in_one_batch_of_jobs_sees_the_one_before(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 10), an_order("o1", 4), an_order("o2", 4))

        refused, shrunk, grown = handle_together(
            work, resize(9), resize(1, order_id="o2"), resize(9)
        )

        assert refusal(refused)[0] == "OutOfStock"
        assert answer(shrunk)["state"] == answer(grown)["state"] == "allocated"
        assert books_of(work).batches["b1"].available == 0


class TestDeallocateLine:
    def test_ends_the_line_as_cancelled_and_releases_its_stock(
        self, work: FakeAllocationWork
    ) -> None:
        outcome = last(work, a_batch("b1", 10), an_order("o1", 4, 3), withdraw())

        assert answer(outcome)["state"] == "allocated"
        assert (state_of(work), state_of(work, line_id="2")) == ("cancelled", "allocated")
        assert books_of(work).batches["b1"].allocated == 3
        assert work.events[-1] == LineDeallocated(
            order_id="o1",
            line_id="1",
            sku="LAMP",
            portions=(Portion(batch="b1", quantity=4, eta=None),),
            cause="line_deallocated",
        )

    def test_serves_who_waits(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 4), an_order("o1", 4), a_backorder("o2", 3), withdraw())

        assert state_of(work, "o2") == "allocated"

    def test_answers_with_its_neighbour_that_took_the_stock(self, work: FakeAllocationWork) -> None:
        outcome = last(work, a_batch("b1", 4), a_backorder("o1", 4, 3), withdraw())

        assert [line["state"] for line in answer(outcome)["lines"]] == ["cancelled", "allocated"]
        assert answer(outcome)["lines"][1]["batches"] == [
            {"reference": "b1", "quantity": 3, "eta": None}
        ]

    def test_of_a_line_that_waits_ends_its_wait(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 4), a_backorder("o1", 9), withdraw(), a_batch("b2", 9))

        assert state_of(work) == "cancelled"
        assert books_of(work).batches["b2"].allocated == 0

    def test_of_a_refused_line_cancels_it(self, work: FakeAllocationWork) -> None:
        handle(work, a_batch("b1", 4), an_order("o1", 9), withdraw())

        assert state_of(work) == "cancelled"

    def test_again_has_the_same_answer_without_effect_or_event(
        self, work: FakeAllocationWork
    ) -> None:
        first = last(work, a_batch("b1", 10), an_order("o1", 4, 3), withdraw())
        before, told = books_of(work), len(work.events)

        assert answer(last(work, withdraw())) == answer(first)
        assert (books_of(work), len(work.events)) == (before, told)

    def test_of_the_last_line_leaves_the_order_cancelled(self, work: FakeAllocationWork) -> None:
        outcome = last(work, a_batch("b1", 10), an_order("o1", 4), withdraw())

        assert answer(outcome)["state"] == "cancelled"


class TestCancelOrder:
    def test_releases_the_stock_of_all_its_lines(self, work: FakeAllocationWork) -> None:
        outcome = last(
            work,
            a_batch("b1", 10),
            a_batch("b2", 10, sku="CHAIR"),
            a_backorder("o1", 4, 20, ("CHAIR", 2)),
            CancelOrder(order_id="o1"),
        )

        assert answer(outcome)["state"] == "cancelled"
        assert {row.allocated for row in books_of(work).batches.values()} == {0}
        assert [event.name for event in work.events[-3:]] == [
            "LineDeallocated",
            "LineDeallocated",
            "OrderCancelled",
        ]

    def test_serves_who_waits(self, work: FakeAllocationWork) -> None:
        handle(
            work,
            a_batch("b1", 4),
            a_batch("b2", 4, sku="CHAIR"),
            an_order("o1", 4, ("CHAIR", 4)),
            a_backorder("o2", 3, ("CHAIR", 3)),
            CancelOrder(order_id="o1"),
        )

        assert {state_of(work, "o2", line) for line in ("1", "2")} == {"allocated"}

    def test_again_has_the_same_answer_without_effect_or_event(
        self, work: FakeAllocationWork
    ) -> None:
        cancel = CancelOrder(order_id="o1")
        first = last(work, a_batch("b1", 10), an_order("o1", 4), cancel)
        before, told = books_of(work), len(work.events)

        assert answer(last(work, cancel)) == answer(first)
        assert (books_of(work), len(work.events)) == (before, told)

    def test_of_a_refused_order_ends_it(self, work: FakeAllocationWork) -> None:
        order = an_order("o1", 9)
        again = last(
            work, a_batch("b1", 4), order, CancelOrder(order_id="o1"), a_batch("b2", 9), order
        )

        assert answer(again)["state"] == "cancelled"
        assert OrderCancelled(order_id="o1") in work.events

    def test_of_two_in_one_batch_of_jobs_serves_who_waits_once(
        self, work: FakeAllocationWork
    ) -> None:
        handle(work, a_batch("b1", 6), an_order("o1", 3), an_order("o2", 3))
        handle(work, a_backorder("o3", 6, may_split=True), a_backorder("o4", 3))

        handle_together(work, CancelOrder(order_id="o1"), CancelOrder(order_id="o2"))

        assert (state_of(work, "o3"), state_of(work, "o4")) == ("allocated", "backordered")

    @pytest.mark.parametrize("policy", Policy)
    def test_leaves_nothing_of_any_policy(self, work: FakeAllocationWork, policy: Policy) -> None:
        handle(
            work,
            a_batch("b1", 6),
            an_order("o1", 9, 2, policy=policy, may_split=True),
            CancelOrder(order_id="o1"),
        )

        assert books_of(work).allocations == {}
