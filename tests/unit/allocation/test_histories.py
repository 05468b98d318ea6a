"""What holds after any history of commands."""

from hypothesis import given, settings

from domain.allocation.events import OrderAllocated
from domain.allocation.orders import OrderState
from domain.jobs.outcomes import Rejected
from domain.messages import Event
from tests.fakes.allocation_builders import Together, histories, told
from tests.fakes.stock import FakeAllocationWork
from tests.stock_audit import portions_of, replay


def but_completions(work: FakeAllocationWork) -> list[tuple[str, Event]]:
    return [(job, event) for job, event in work.recorded if not isinstance(event, OrderAllocated)]


def orders_told_complete(work: FakeAllocationWork) -> set[str]:
    return {event.order_id for event in work.events if isinstance(event, OrderAllocated)}


def orders_allocated(work: FakeAllocationWork) -> set[str]:
    stored = work.stock.orders(work.stock.books().orders)
    return {i for i, order in stored.items() if order.state is OrderState.ALLOCATED}


class TestAnyHistory:
    @settings(max_examples=300, deadline=None)
    @given(history=histories())
    def test_leaves_books_that_agree_after_every_command(self, history: list[Together]) -> None:
        work = FakeAllocationWork()

        for handler, requests in history:
            handler(requests, work)
            books = work.stock.books()
            books.audit()
            believed = replay(portions_of(work.events))
            assert believed == {key: row.quantity for key, row in books.allocations.items()}

    @settings(max_examples=200, deadline=None)
    @given(history=histories())
    def test_ends_the_same_handled_together_or_one_by_one(self, history: list[Together]) -> None:
        together, alone = FakeAllocationWork(), FakeAllocationWork()

        for batch in history:
            outcomes = batch.handler(batch.requests, together)
            single = [each.handler(each.requests, alone) for each in batch.alone]
            assert [told(each) for each in outcomes] == [told(each) for [each] in single]
            assert together.stock.books() == alone.stock.books()
            # An order that a batch completes and breaks again was never seen complete.
            assert but_completions(together) == but_completions(alone)
            assert orders_allocated(together) <= orders_told_complete(together)
            assert orders_told_complete(together) <= orders_told_complete(alone)

    @settings(max_examples=200, deadline=None)
    @given(history=histories())
    def test_ends_the_same_with_locks_first_or_last(self, history: list[Together]) -> None:
        last, first = FakeAllocationWork(), FakeAllocationWork(locks_first=True)

        for handler, requests in history:
            assert [told(each) for each in handler(requests, last)] == [
                told(each) for each in handler(requests, first)
            ]
        assert last.stock.books() == first.stock.books()
        assert last.recorded == first.recorded

    @settings(max_examples=200, deadline=None)
    @given(history=histories())
    def test_gives_the_same_answer_again_without_effect_or_event(
        self, history: list[Together]
    ) -> None:
        work = FakeAllocationWork()

        for batch in history:
            for handler, requests in batch.alone:
                [first] = handler(requests, work)
                books, events = work.stock.books(), list(work.recorded)
                [again] = handler(requests, work)
                assert told(again) == told(first)
                assert work.stock.books() == books
                assert work.recorded == events

    @settings(max_examples=200, deadline=None)
    @given(history=histories())
    def test_tells_and_moves_only_what_changed(self, history: list[Together]) -> None:
        work = FakeAllocationWork()

        for batch in history:
            for handler, requests in batch.alone:
                before, told_before = work.stock.books(), len(work.recorded)
                [outcome] = handler(requests, work)
                after = work.stock.books()
                if (before.batches, before.lines, before.allocations) == (
                    after.batches,
                    after.lines,
                    after.allocations,
                ):
                    assert len(work.recorded) == told_before
                    assert after == before
                if isinstance(outcome, Rejected):
                    assert after.movements == before.movements
                    assert after.products == before.products
                    assert after.batches == before.batches
