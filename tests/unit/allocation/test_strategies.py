"""How batches are ranked."""

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from domain.allocation.batches import Batch
from domain.allocation.strategies import Strategy, rank
from tests.fakes.allocation_builders import AUTUMN, SPRING, SUMMER


def batches(*said: tuple[str, int, date | None]) -> list[Batch]:
    return [
        Batch(reference=reference, sku="LAMP", purchased=quantity, eta=eta)
        for reference, quantity, eta in said
    ]


def ranked(strategy: Strategy, *said: tuple[str, int, date | None]) -> list[str]:
    return [batch.reference for batch in rank(strategy, batches(*said))]


class TestEarliest:
    def test_puts_stock_on_hand_before_shipments_however_soon(self) -> None:
        assert ranked(Strategy.EARLIEST, ("a", 1, date.min), ("b", 1, None)) == ["b", "a"]

    def test_puts_what_arrives_sooner_first(self) -> None:
        assert ranked(Strategy.EARLIEST, ("a", 1, AUTUMN), ("b", 1, SPRING), ("c", 1, SUMMER)) == [
            "b",
            "c",
            "a",
        ]

    def test_breaks_ties_by_reference(self) -> None:
        said = [("b", 1, SPRING), ("d", 9, None), ("a", 5, SPRING), ("c", 1, None)]

        assert ranked(Strategy.EARLIEST, *said) == ["c", "d", "a", "b"]


class TestSmallest:
    def test_puts_what_has_least_available_first(self) -> None:
        said = [("a", 9, None), ("b", 2, AUTUMN), ("c", 5, SPRING)]

        assert ranked(Strategy.SMALLEST, *said) == ["b", "c", "a"]

    def test_counts_what_is_available_not_what_was_purchased(self) -> None:
        large, small = batches(("a", 9, None), ("b", 2, None))
        large.allocated = 8

        assert rank(Strategy.SMALLEST, [small, large]) == [large, small]

    def test_breaks_ties_as_earliest_does(self) -> None:
        said = [("b", 2, SPRING), ("a", 2, SPRING), ("d", 2, None)]

        assert ranked(Strategy.SMALLEST, *said) == ["d", "a", "b"]


class TestAnyStrategy:
    @given(
        strategy=st.sampled_from(Strategy),
        said=st.lists(
            st.tuples(
                st.text("abc", min_size=1, max_size=2),
                st.integers(0, 3),
                st.sampled_from([None, SPRING, SUMMER]),
            ),
            unique_by=lambda each: each[0],
        ),
        data=st.data(),
    )
    def test_is_pure_and_ignores_the_order_it_is_given(
        self, strategy: Strategy, said: list[tuple[str, int, date | None]], data: st.DataObject
    ) -> None:
        shuffled = data.draw(st.permutations(said))

        assert ranked(strategy, *said) == ranked(strategy, *shuffled)
        assert sorted(ranked(strategy, *said)) == sorted(reference for reference, _, _ in said)
