"""How breakers stand, in a process and in its children."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters import breakers
from adapters.breakers import NAMES, Breaker, CircuitOpen
from worker.metrics.breaker_board import PLACES, BreakerBoard

ROOT = Path(__file__).parents[3]
REST_SECONDS = 3_600.0
"""Longer than any machine stands still: a breaker looks at the clock on the wall."""

# A worker's children are forked beside its threads too.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> BreakerBoard:
    monkeypatch.setattr(breakers, "_listeners", [])
    board = BreakerBoard(clock=clock)
    board.listen()
    return board


def figures(board: BreakerBoard, name: str = "postgresql") -> tuple[float, float]:
    """Return how many are open, and how often one has opened."""
    is_open, openings = (
        {sample.labels["breaker"]: sample.value for sample in family.samples}
        for family in board.collect()
    )
    return is_open[name], openings[name]


def open_one(name: str = "postgresql") -> Breaker:
    breaker = Breaker(name, failures=1, seconds=REST_SECONDS)
    with suppress(OSError), breaker.calling():
        raise OSError
    return breaker


def in_a_child(board: BreakerBoard, place: int) -> None:
    child = os.fork()
    if child == 0:
        board.move_to(place)
        open_one()
        os._exit(0)
    os.waitpid(child, 0)


class TestBreakerBoard:
    def test_tells_of_every_breaker_from_the_start(self, board: BreakerBoard) -> None:
        assert {figures(board, name) for name in NAMES} == {(0, 0)}

    def test_knows_the_names_of_all_breakers(self) -> None:
        sources = [path.read_text(encoding="utf-8") for path in (ROOT / "adapters").rglob("*.py")]
        made = re.findall(r'[^.\w]Breaker\(\s*"(\w+)"', "\n".join(sources))
        assert set(made) == set(NAMES)

    def test_tells_who_fails_at_once(self, board: BreakerBoard) -> None:
        breaker = open_one()
        with pytest.raises(CircuitOpen), breaker.calling():
            pass
        assert figures(board) == (1, 1)

    def test_does_not_call_open_what_would_be_tried_again(
        self, board: BreakerBoard, clock: Clock
    ) -> None:
        open_one()
        clock.now += REST_SECONDS + 1
        assert figures(board) == (0, 1)

    def test_adds_up_what_its_children_found(self, board: BreakerBoard) -> None:
        open_one()
        in_a_child(board, 1)
        in_a_child(board, 2)
        assert figures(board) == (3, 3)

    def test_keeps_the_count_of_a_child_that_was_replaced(self, board: BreakerBoard) -> None:
        in_a_child(board, 1)
        board.move_to(1)
        assert figures(board) == (0, 1)

    def test_takes_more_children_than_it_has_places_for(self, board: BreakerBoard) -> None:
        in_a_child(board, PLACES)
        assert figures(board) == (0, 0)
