"""What a worker process knows of queues, and for how long it believes it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from domain.errors import Unavailable
from domain.jobs.queues import QueueSettings
from worker.queue_gate import FRESH_SECONDS, QueueGate

T = TypeVar("T")
PAUSED = {"users": QueueSettings(name="users", paused_at=datetime(2026, 1, 1, tzinfo=UTC))}


class Ledger:
    """Answers what it is told to, and counts how often it is asked."""

    def __init__(self) -> None:
        self.settings: Mapping[str, QueueSettings] = {}
        self.asked = 0
        self.moment = 100.0
        self.takes = 0.0

    def read(self) -> Mapping[str, QueueSettings]:
        self.asked += 1
        self.moment += self.takes
        return self.settings


def once(transaction: Callable[[], T], *, patient: bool = False) -> T:
    return transaction()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def gate(ledger: Ledger) -> QueueGate:
    return QueueGate(read=ledger.read, persistently=once, clock=lambda: ledger.moment)


class TestTheGate:
    def test_asks_once_for_many_messages(self, ledger: Ledger, gate: QueueGate) -> None:
        for _ in range(100):
            assert gate.objection("users", pace=None) is None
        assert ledger.asked == 1

    def test_hears_of_a_pause_within_half_a_second(self, ledger: Ledger, gate: QueueGate) -> None:
        assert gate.objection("users", pace=None) is None
        ledger.settings = PAUSED
        ledger.moment += FRESH_SECONDS
        assert gate.objection("users", pace=None)
        assert FRESH_SECONDS < 0.5

    def test_reckons_from_when_it_asked(self, ledger: Ledger, gate: QueueGate) -> None:
        ledger.takes = FRESH_SECONDS
        gate.objection("users", pace=None)
        gate.objection("users", pace=None)
        assert ledger.asked == 2

    @pytest.mark.parametrize("error", [Unavailable("away"), LookupError("no such table")])
    def test_does_not_let_pass_what_it_cannot_ask_for(
        self, ledger: Ledger, gate: QueueGate, error: Exception
    ) -> None:
        gate.objection("users", pace=None)

        def away() -> Mapping[str, QueueSettings]:
            raise error

        gate.read = away
        ledger.moment += FRESH_SECONDS
        for _ in range(2):
            with pytest.raises(Unavailable):
                gate.objection("users", pace=None)
