"""Orders and lines: who they are and where they stand."""

from datetime import date

import pytest

from domain.allocation.orders import Allocation, LineState, OrderLine, OrderState, Terms
from domain.allocation.strategies import Strategy
from tests.fakes.allocation_builders import SPRING, SUMMER

ALLOCATED, PARTIAL, WAITING, REJECTED, CANCELLED = (
    LineState.ALLOCATED,
    LineState.PARTIALLY_ALLOCATED,
    LineState.BACKORDERED,
    LineState.REJECTED,
    LineState.CANCELLED,
)


def a_line(
    quantity: int = 10, *, order_id: str = "o1", line_id: str = "1", terms: Terms | None = None
) -> OrderLine:
    return OrderLine(
        order_id=order_id, line_id=line_id, sku="LAMP", quantity=quantity, terms=terms or Terms()
    )


def held(line: OrderLine, *portions: tuple[str, int, date | None]) -> OrderLine:
    for reference, quantity, eta in portions:
        line.allocations[reference] = Allocation(
            batch_reference=reference,
            quantity=quantity,
            eta=eta,
            strategy=Strategy.EARLIEST,
            ranking=(),
        )
    return line


class TestIdentityOfALine:
    def test_is_order_and_line_id_whatever_it_holds(self) -> None:
        assert a_line(1) == a_line(2)
        assert len({a_line(1), a_line(2)}) == 1

    def test_tells_two_lines_of_one_sku_apart(self) -> None:
        assert a_line(line_id="1") != a_line(line_id="2")
        assert a_line(order_id="o1") != a_line(order_id="o2")
        assert len({a_line(line_id="1"), a_line(line_id="2")}) == 2

    def test_is_not_its_text(self) -> None:
        assert a_line() != ("o1", "1")
        assert a_line(order_id="o1", line_id="11") != a_line(order_id="o11", line_id="1")


class TestPromise:
    def test_is_the_day_the_last_of_it_arrives(self) -> None:
        line = held(a_line(), ("b1", 1, SUMMER), ("b2", 1, None), ("b3", 1, SPRING))

        assert line.promise == SUMMER

    def test_is_now_where_all_is_on_hand(self) -> None:
        assert held(a_line(), ("b1", 1, None)).promise is None


class TestOutstanding:
    def test_is_what_is_wanted_and_not_held(self) -> None:
        line = held(a_line(10), ("b1", 3, None), ("b2", 4, None))

        assert (line.allocated, line.outstanding) == (7, 3)


class TestTurn:
    def test_goes_by_priority_then_first_come_then_line(self) -> None:
        lines = [
            a_line(order_id="late", terms=Terms(priority=1, sequence=9)),
            a_line(order_id="early", line_id="2", terms=Terms(priority=1, sequence=3)),
            a_line(order_id="early", line_id="1", terms=Terms(priority=1, sequence=3)),
            a_line(order_id="first", terms=Terms(priority=0, sequence=1)),
            a_line(order_id="urgent", terms=Terms(priority=9, sequence=10)),
        ]

        assert [line.identity for line in sorted(lines, key=lambda line: line.turn)] == [
            ("urgent", "1"),
            ("early", "1"),
            ("early", "2"),
            ("late", "1"),
            ("first", "1"),
        ]


class TestStateOfAnOrder:
    @pytest.mark.parametrize(
        ("lines", "state"),
        [
            ([LineState.PENDING], OrderState.PENDING),
            ([ALLOCATED, ALLOCATED], OrderState.ALLOCATED),
            ([ALLOCATED, CANCELLED], OrderState.ALLOCATED),
            ([ALLOCATED, PARTIAL], OrderState.PARTIALLY_ALLOCATED),
            ([ALLOCATED, REJECTED], OrderState.PARTIALLY_ALLOCATED),
            ([PARTIAL, CANCELLED], OrderState.PARTIALLY_ALLOCATED),
            ([ALLOCATED, WAITING], OrderState.BACKORDERED),
            ([WAITING, CANCELLED], OrderState.BACKORDERED),
            ([REJECTED, REJECTED], OrderState.REJECTED),
            ([REJECTED, CANCELLED], OrderState.REJECTED),
            ([CANCELLED, CANCELLED], OrderState.CANCELLED),
        ],
    )
    def test_is_told_by_its_lines_and_cancelled_ones_count_only_where_all_are(
        self, lines: list[LineState], state: OrderState
    ) -> None:
        assert OrderState.of(lines) is state
        assert OrderState.of(reversed(lines)) is state


class TestOpenLines:
    def test_are_those_that_were_neither_refused_nor_withdrawn(self) -> None:
        line = a_line()
        is_open = {}
        for state in LineState:
            line.state = state
            is_open[state] = line.is_open

        assert {state for state, each in is_open.items() if not each} == {REJECTED, CANCELLED}
