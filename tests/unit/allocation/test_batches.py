"""Batches are announced, counted anew and delayed."""

from typing import Any

import pytest

from domain.allocation.commands import (
    ChangeBatchEta,
    ChangeBatchQuantity,
    ChangeLineQuantity,
    Policy,
)
from domain.allocation.events import (
    BatchCreated,
    LineAllocated,
    LineBackordered,
    LineDeallocated,
    OrderAllocated,
    Portion,
    PromiseDateChanged,
)
from domain.messages import Command, Event
from tests.fakes.allocation_builders import (
    AUTUMN,
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


def after(work: FakeAllocationWork, *commands: Command) -> Books:
    """Handle commands and return the books, audited."""
    handle(work, *commands)
    books = work.stock.books()
    books.audit()
    return books


def events_since(work: FakeAllocationWork, start: int) -> list[Event]:
    return list(work.events[start:])


def states(books: Books) -> dict[str, str]:
    """Return the state of each order's line 1."""
    return {
        order_id: row.state for (order_id, line_id), row in books.lines.items() if line_id == "1"
    }


class TestCreateBatch:
    def test_puts_it_on_record_with_a_movement_and_an_event(self, work: FakeAllocationWork) -> None:
        [outcome] = handle(work, a_batch("b1", 10, eta=SPRING))

        assert answer(outcome) == {
            "reference": "b1",
            "sku": "LAMP",
            "quantity": 10,
            "eta": "2030-04-01",
        }
        assert work.events == [BatchCreated(reference="b1", sku="LAMP", quantity=10, eta=SPRING)]
        [movement] = work.stock.books().movements
        assert (movement.job_id, movement.cause) == (work.recorded[0][0], "batch_created")
        assert (movement.counter, movement.before, movement.after) == ("purchased", 0, 10)
        assert (movement.batch_reference, movement.sku) == ("b1", "LAMP")

    def test_takes_an_empty_batch_without_a_movement(self, work: FakeAllocationWork) -> None:
        books = after(work, a_batch("b1", 0))

        assert books.batches["b1"].purchased == 0
        assert books.movements == []
        assert len(work.events) == 1

    def test_answers_the_same_batch_again_without_effect_or_event(
        self, work: FakeAllocationWork
    ) -> None:
        first, again = handle(work, a_batch(), a_batch())

        assert answer(again) == answer(first)
        assert len(work.events) == 1
        assert work.stock.books().batches["b1"].purchased == 10

    def test_answers_the_same_batch_again_though_it_was_changed_since(
        self, work: FakeAllocationWork
    ) -> None:
        first, _, _, again = handle(
            work,
            a_batch(),
            ChangeBatchQuantity(reference="b1", quantity=3),
            ChangeBatchEta(reference="b1", eta=SUMMER),
            a_batch(),
        )

        assert answer(again) == answer(first)
        assert work.stock.books().batches["b1"].purchased == 3

    @pytest.mark.parametrize("change", [{"quantity": 11}, {"sku": "CHAIR"}, {"eta": SPRING}])
    def test_refuses_the_same_reference_with_other_contents(
        self, work: FakeAllocationWork, change: dict[str, Any]
    ) -> None:
        said: dict[str, Any] = {"reference": "b1", "quantity": 10, "sku": "LAMP"}
        before = after(work, a_batch(**said))

        [outcome] = handle(work, a_batch(**said | change))

        assert refusal(outcome) == ("BatchConflict", {"reference": "b1"})
        assert work.stock.books() == before

    def test_refused_does_not_make_its_product_known(self, work: FakeAllocationWork) -> None:
        *_, placed = handle(
            work, a_batch("b1"), a_batch("b1", sku="CHAIR"), an_order("o1", ("CHAIR", 1))
        )

        assert refusal(placed) == ("InvalidSku", {"skus": ["CHAIR"]})

    def test_lets_the_first_of_a_batch_of_jobs_have_the_reference(
        self, work: FakeAllocationWork
    ) -> None:
        first, again, other = handle_together(
            work, a_batch("b1"), a_batch("b1"), a_batch("b1", sku="CHAIR")
        )

        assert answer(first) == answer(again)
        assert refusal(other) == ("BatchConflict", {"reference": "b1"})
        books = work.stock.books()
        books.audit()
        assert set(books.products) == {"LAMP"}

    def test_serves_who_waits_in_the_same_command(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b0", 0), a_backorder("o1", 4))
        start = len(work.events)

        books = after(work, a_batch("b1", 10, eta=SPRING))

        assert books.held_by("o1", "1") == {"b1": 4}
        assert states(books) == {"o1": "allocated"}
        assert events_since(work, start) == [
            BatchCreated(reference="b1", sku="LAMP", quantity=10, eta=SPRING),
            LineAllocated(
                order_id="o1",
                line_id="1",
                sku="LAMP",
                portions=(Portion(batch="b1", quantity=4, eta=SPRING),),
            ),
            OrderAllocated(order_id="o1"),
        ]
        assert [move.cause for move in books.movements] == ["batch_created", "backorder_served"]

    def test_tells_of_an_order_when_its_last_line_is_served(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b0", 0), a_batch("c0", 0, sku="CHAIR"))
        after(work, a_backorder("o1", ("LAMP", 4), ("CHAIR", 2)))
        start = len(work.events)

        after(work, a_batch("b1", 4))
        assert OrderAllocated(order_id="o1") not in events_since(work, start)

        after(work, a_batch("c1", 2, sku="CHAIR"))
        assert events_since(work, start)[-1] == OrderAllocated(order_id="o1")

    def test_serves_one_line_from_two_batches_of_one_batch_of_jobs(
        self, work: FakeAllocationWork
    ) -> None:
        after(work, a_batch("b0", 0), a_backorder("o1", 10, may_split=True))

        handle_together(work, a_batch("b1", 4), a_batch("b2", 9))

        books = work.stock.books()
        books.audit()
        assert books.held_by("o1", "1") == {"b1": 4, "b2": 6}
        jobs = [job_id for job_id, event in work.recorded if isinstance(event, LineAllocated)]
        assert [books.allocations["o1", "1", batch].job_id for batch in ("b1", "b2")] == jobs


class TestWhoIsServedFirst:
    def test_is_who_has_priority_then_who_came_first(self, work: FakeAllocationWork) -> None:
        after(
            work,
            a_batch("b0", 0),
            a_backorder("o1", 3),
            a_backorder("o2", 3),
            a_backorder("o3", 3, priority=5),
        )

        assert states(after(work, a_batch("b1", 3))) == {
            "o1": "backordered",
            "o2": "backordered",
            "o3": "allocated",
        }
        assert states(after(work, a_batch("b2", 3)))["o1"] == "allocated"

    def test_is_not_held_up_by_a_line_that_cannot_be_served_whole(
        self, work: FakeAllocationWork
    ) -> None:
        after(work, a_batch("b0", 0), a_backorder("o1", 9, priority=9), a_backorder("o2", 3))

        books = after(work, a_batch("b1", 5))

        assert states(books) == {"o1": "backordered", "o2": "allocated"}
        assert books.batches["b1"].available == 2

    def test_takes_what_there_is_where_the_line_may_split(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b0", 0), a_backorder("o1", 9, may_split=True), a_backorder("o2", 3))

        books = after(work, a_batch("b1", 5))

        assert books.held_by("o1", "1") == {"b1": 5}
        assert states(books) == {"o1": "backordered", "o2": "backordered"}

    def test_hears_when_the_promise_moves_with_the_rest(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b0", 2, eta=SPRING), a_backorder("o1", 5, may_split=True))
        start = len(work.events)

        after(work, a_batch("b1", 3, eta=SUMMER))

        assert events_since(work, start)[-2:] == [
            PromiseDateChanged(order_id="o1", line_id="1", sku="LAMP", before=SPRING, after=SUMMER),
            OrderAllocated(order_id="o1"),
        ]


class TestIncreaseOfABatch:
    def test_serves_who_waits(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 2), a_backorder("o1", 5))

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=6))

        assert books.held_by("o1", "1") == {"b1": 5}
        [created, changed, served] = books.movements
        assert (changed.cause, changed.before, changed.after) == ("quantity_changed", 2, 6)
        assert (created.counter, served.counter) == ("purchased", "allocated")

    def test_answers_with_what_is_now(self, work: FakeAllocationWork) -> None:
        *_, outcome = handle(
            work,
            a_batch("b1", 2),
            a_backorder("o1", 5),
            ChangeBatchQuantity(reference="b1", quantity=6),
        )

        assert answer(outcome) == {
            "reference": "b1",
            "sku": "LAMP",
            "quantity": 6,
            "allocated": 5,
        }

    def test_again_has_no_effect(self, work: FakeAllocationWork) -> None:
        before = after(work, a_batch("b1", 2), ChangeBatchQuantity(reference="b1", quantity=6))

        assert after(work, ChangeBatchQuantity(reference="b1", quantity=6)) == before

    def test_of_an_unknown_batch_is_refused(self, work: FakeAllocationWork) -> None:
        changed, delayed = handle(
            work,
            ChangeBatchQuantity(reference="b1", quantity=6),
            ChangeBatchEta(reference="b1", eta=SPRING),
        )

        assert refusal(changed) == ("BatchNotFound", {"reference": "b1"})
        assert refusal(delayed) == ("BatchNotFound", {"reference": "b1"})


class TestCutOfABatch:
    def test_of_free_units_moves_nobody(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 10), an_order("o1", 4))
        start = len(work.events)

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=4))

        assert books.held_by("o1", "1") == {"b1": 4}
        assert events_since(work, start) == []

    def test_takes_the_lowest_priority_first(self, work: FakeAllocationWork) -> None:
        after(
            work,
            a_batch("b1", 9),
            an_order("o1", 3, priority=1),
            an_order("o2", 3, priority=0),
            an_order("o3", 3, priority=2),
        )

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=6))

        assert states(books) == {"o1": "allocated", "o2": "backordered", "o3": "allocated"}

    def test_takes_the_newest_first_of_one_priority(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 9), an_order("o1", 3), an_order("o3", 3), an_order("o2", 3))

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=6))

        assert states(books) == {"o1": "allocated", "o2": "backordered", "o3": "allocated"}

    def test_takes_by_line_id_within_an_order(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 9), an_order("o1", 3, 3, 3))

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=6))

        assert {line_id: row.state for (_, line_id), row in books.lines.items()} == {
            "1": "backordered",
            "2": "allocated",
            "3": "allocated",
        }

    def test_reallocates_its_victims_in_the_same_command(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 9), a_batch("b2", 5, eta=SPRING), an_order("o1", 4))
        start = len(work.events)

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=3))

        assert books.held_by("o1", "1") == {"b2": 4}
        assert events_since(work, start) == [
            LineDeallocated(
                order_id="o1",
                line_id="1",
                sku="LAMP",
                portions=(Portion(batch="b1", quantity=4, eta=None),),
                cause="displaced",
            ),
            LineAllocated(
                order_id="o1",
                line_id="1",
                sku="LAMP",
                portions=(Portion(batch="b2", quantity=4, eta=SPRING),),
            ),
            PromiseDateChanged(order_id="o1", line_id="1", sku="LAMP", before=None, after=SPRING),
        ]
        assert [move.cause for move in books.movements[3:]] == [
            "displaced",
            "quantity_changed",
            "reallocated",
        ]

    def test_lets_victims_without_other_stock_wait_whatever_their_policy(
        self, work: FakeAllocationWork
    ) -> None:
        after(work, a_batch("b1", 9), an_order("o1", 4))
        start = len(work.events)

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=3))

        assert states(books) == {"o1": "backordered"}
        assert events_since(work, start)[-1] == LineBackordered(
            order_id="o1", line_id="1", sku="LAMP", outstanding=4
        )
        assert states(after(work, a_batch("b2", 4))) == {"o1": "allocated"}

    def test_gives_what_its_victims_leave_to_those_who_fit(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 10), an_order("o1", 6), an_order("o2", 4))

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=5))

        assert states(books) == {"o1": "backordered", "o2": "allocated"}
        assert books.batches["b1"].available == 1

    def test_serves_others_who_wait_from_what_is_left(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 10), an_order("o1", 10), a_backorder("o2", 5))

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=5))

        assert states(books) == {"o1": "backordered", "o2": "allocated"}

    def test_leaves_a_line_that_may_split_what_still_fits(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 10), a_backorder("o1", 10, may_split=True))

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=6))

        assert books.held_by("o1", "1") == {"b1": 6}
        assert states(books) == {"o1": "backordered"}

    def test_leaves_other_batches_of_a_split_victim_alone(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 4), a_batch("b2", 4), an_order("o1", 8, may_split=True))

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=0))

        assert books.held_by("o1", "1") == {"b2": 4}
        assert states(books) == {"o1": "backordered"}

    def test_lets_a_displaced_partial_line_wait_for_all_it_asked(
        self, work: FakeAllocationWork
    ) -> None:
        after(work, a_batch("b1", 4), a_partial_order("o1", 10, may_split=True))

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=1))

        assert states(books) == {"o1": "backordered"}
        assert books.held_by("o1", "1") == {"b1": 1}
        assert books.lines["o1", "1"].quantity == 10

    def test_to_nothing_can_always_be_carried_out(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 9), an_order("o1", 4), an_order("o2", 5, priority=9))

        books = after(work, ChangeBatchQuantity(reference="b1", quantity=0))

        assert books.batches["b1"][1:3] == (0, 0)
        assert set(states(books).values()) == {"backordered"}

    def test_below_what_must_stay_is_refused(self, work: FakeAllocationWork) -> None:
        before = after(work, a_batch("b1", 9), an_order("o1", 4))

        refused, taken = handle(
            work,
            ChangeBatchQuantity(reference="b1", quantity=3, displace=False),
            ChangeBatchQuantity(reference="b1", quantity=4, displace=False),
        )

        assert refusal(refused) == (
            "QuantityTooLow",
            {"reference": "b1", "quantity": 3, "allocated": 4},
        )
        assert answer(taken)["quantity"] == 4
        assert before.batches["b1"].purchased == 9

    def test_twice_in_one_batch_of_jobs_counts_both(self, work: FakeAllocationWork) -> None:
        after(work, a_batch("b1", 10), an_order("o1", 4), an_order("o2", 4))

        first, second = handle_together(
            work,
            ChangeBatchQuantity(reference="b1", quantity=5),
            ChangeBatchQuantity(reference="b1", quantity=3, displace=False),
        )

        assert answer(first)["allocated"] == 4
        assert refusal(second)[0] == "QuantityTooLow"
        work.stock.books().audit()

    def test_again_has_no_effect(self, work: FakeAllocationWork) -> None:
        cut = ChangeBatchQuantity(reference="b1", quantity=3)
        before = after(work, a_batch("b1", 9), an_order("o1", 4), cut)
        start = len(work.events)

        assert after(work, cut) == before
        assert events_since(work, start) == []


class TestChangeOfEta:
    def test_tells_the_lines_whose_promise_moves(self, work: FakeAllocationWork) -> None:
        after(
            work,
            a_batch("b1", 4, eta=SPRING),
            a_batch("b2", 4, eta=SUMMER),
            an_order("o1", 2),
            an_order("o2", 6, may_split=True),
        )
        start = len(work.events)

        *_, outcome = handle(work, ChangeBatchEta(reference="b1", eta=None))

        assert answer(outcome) == {"reference": "b1", "sku": "LAMP", "eta": None}
        assert events_since(work, start) == [
            PromiseDateChanged(order_id="o1", line_id="1", sku="LAMP", before=SPRING, after=None)
        ]
        start = len(work.events)
        handle(work, ChangeBatchEta(reference="b1", eta=AUTUMN))
        assert {event.order_id: event.after for event in events_since(work, start)} == {  # type: ignore[attr-defined]
            "o1": AUTUMN,
            "o2": AUTUMN,
        }

    def test_moves_no_units(self, work: FakeAllocationWork) -> None:
        before = after(work, a_batch("b1", 4, eta=SPRING), an_order("o1", 2))

        books = after(work, ChangeBatchEta(reference="b1", eta=SUMMER))

        assert books.movements == before.movements
        assert books.allocations == before.allocations
        assert books.batches["b1"].eta == SUMMER

    def test_again_has_no_effect(self, work: FakeAllocationWork) -> None:
        before = after(work, a_batch("b1", 4, eta=SPRING), an_order("o1", 2))
        start = len(work.events)

        assert after(work, ChangeBatchEta(reference="b1", eta=SPRING)) == before
        assert events_since(work, start) == []

    def test_ranks_the_batch_anew_for_who_comes_next(self, work: FakeAllocationWork) -> None:
        books = after(
            work,
            a_batch("b1", 4, eta=SPRING),
            a_batch("b2", 4, eta=SUMMER),
            ChangeBatchEta(reference="b1", eta=AUTUMN),
            an_order("o1", 2),
        )

        assert books.held_by("o1", "1") == {"b2": 2}


class TestALineThatGrewBeyondItsBatch:
    def test_keeps_what_it_has_and_is_never_split_where_it_may_not(
        self, work: FakeAllocationWork
    ) -> None:
        grow = ChangeLineQuantity(order_id="o1", line_id="1", quantity=7)
        books = after(work, a_batch("b1", 5), a_backorder("o1", 5), grow)
        assert (states(books), books.held_by("o1", "1")) == ({"o1": "backordered"}, {"b1": 5})

        books = after(work, a_batch("b2", 6))
        assert (states(books), books.held_by("o1", "1")) == ({"o1": "backordered"}, {"b1": 5})

        books = after(work, a_batch("b3", 7))
        assert (states(books), books.held_by("o1", "1")) == ({"o1": "allocated"}, {"b3": 7})

    def test_hears_when_it_moves_to_another_day(self, work: FakeAllocationWork) -> None:
        grow = ChangeLineQuantity(order_id="o1", line_id="1", quantity=7)
        after(work, a_batch("b1", 5), an_order("o1", 5, policy=Policy.BACKORDER), grow)

        after(work, a_batch("b2", 7, eta=SPRING))

        assert work.events[-2:] == [
            PromiseDateChanged(order_id="o1", line_id="1", sku="LAMP", before=None, after=SPRING),
            OrderAllocated(order_id="o1"),
        ]
