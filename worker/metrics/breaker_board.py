"""The breaker board: how breakers stand in a process and its children, in memory they share."""

import mmap
import time
from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from adapters import breakers
from adapters.breakers import NAMES, State
from worker.metrics import process_catalogue as metrics
from worker.metrics.catalogue import family

PLACES = 257
"""A process and as many children as it may have."""
_NUMBERS = 2
"""For each breaker: until when it lets nothing through, and how often it has opened."""


class BreakerBoard(Collector):
    """Make it before the fork; each process writes at a place of its own, and nobody waits.

    Without calls a breaker stays open though nobody would be turned away any more: what is told
    is whether a call would fail now.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._numbers = memoryview(mmap.mmap(-1, 8 * PLACES * len(NAMES) * _NUMBERS)).cast("d")
        self._place = 0
        self._clock = clock

    def listen(self) -> None:
        """Note, from now on, how the breakers of this process and of its children change."""
        breakers.listen(self._note)

    def move_to(self, place: int) -> None:
        """Write at this place from now on, as the child that has it; the one before is gone."""
        self._place = place
        for name in NAMES:
            if place < PLACES:
                self._numbers[self._at(name)] = 0.0

    def collect(self) -> Iterator[Metric]:
        now = self._clock()
        yield family(
            metrics.BREAKER_OPEN,
            (((name,), sum(now < until for until in self._all(name, 0))) for name in NAMES),
        )
        yield family(
            metrics.BREAKER_OPENINGS, (((name,), sum(self._all(name, 1))) for name in NAMES)
        )

    def _note(self, name: str, state: State, seconds: float) -> None:
        if name not in NAMES or self._place >= PLACES:
            return
        at = self._at(name)
        if state is State.OPEN:
            # Tried again in vain, it has not opened a second time.
            self._numbers[at + 1] += self._numbers[at] == 0.0
            self._numbers[at] = self._clock() + seconds
        elif state is State.CLOSED:
            self._numbers[at] = 0.0

    def _at(self, name: str) -> int:
        return _NUMBERS * (self._place * len(NAMES) + NAMES.index(name))

    def _all(self, name: str, number: int) -> Iterator[float]:
        first = _NUMBERS * NAMES.index(name) + number
        for place in range(PLACES):
            yield self._numbers[first + place * _NUMBERS * len(NAMES)]
