"""Circuit breakers: when they open, what they let through, and what they tell."""

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from adapters.breakers import Breaker, CircuitOpen, State, states

EVER = 3_600.0
Build = Callable[..., Breaker]


class Away(Exception):
    """The other side does not answer."""


class Refused(Exception):
    """The other side answers, and says no."""


@pytest.fixture
def build() -> Build:
    def build(name: str = "tests", *, failures: int = 2, seconds: float = EVER) -> Breaker:
        return Breaker(
            name,
            failures=failures,
            seconds=seconds,
            is_failure=lambda error: isinstance(error, Away),
        )

    return build


def fail(breaker: Breaker, error: type[Exception] = Away, *, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(error), breaker.calling():
            raise error


def succeed(breaker: Breaker) -> None:
    with breaker.calling():
        pass


class TestABreaker:
    def test_makes_no_call_after_so_many_failures_in_a_row(self, build: Build) -> None:
        breaker = build(failures=2)
        fail(breaker, times=2)
        calls = []

        with pytest.raises(CircuitOpen, match="tests was away"), breaker.calling():
            calls.append("made")

        assert calls == []
        assert (breaker.state, breaker.is_resting) == (State.OPEN, True)

    def test_counts_only_failures_in_a_row(self, build: Build) -> None:
        breaker = build(failures=2)
        for _ in range(3):
            fail(breaker)
            succeed(breaker)

        assert breaker.state is State.CLOSED

    def test_takes_a_refusal_for_an_answer(self, build: Build) -> None:
        breaker = build(failures=2)
        fail(breaker)
        fail(breaker, Refused, times=10)
        fail(breaker)

        assert breaker.state is State.CLOSED

    def test_closes_when_a_call_succeeds_after_its_rest(self, build: Build) -> None:
        breaker = build(failures=1, seconds=0)
        fail(breaker)
        before = breaker.state

        succeed(breaker)

        assert (before, breaker.state) == (State.OPEN, State.CLOSED)

    def test_opens_again_when_a_call_fails_after_its_rest(self, build: Build) -> None:
        breaker = build(failures=3, seconds=0)
        fail(breaker, times=4)

        assert breaker.state is State.OPEN

    def test_does_not_rest_longer_because_the_clock_was_set_back(self, build: Build) -> None:
        breaker = build(failures=1)
        fail(breaker)
        breaker._memory.opened_at = datetime.now(tz=UTC) + timedelta(days=1)
        assert not breaker.is_resting

        succeed(breaker)

        assert breaker.state is State.CLOSED

    def test_lets_threads_call_at_the_same_time(self, build: Build) -> None:
        breaker = build()
        together = threading.Barrier(4, timeout=60)

        def call() -> None:
            with breaker.calling():
                together.wait()

        with ThreadPoolExecutor(max_workers=4) as threads:
            for made in [threads.submit(call) for _ in range(4)]:
                made.result()

    def test_tells_once_that_it_opened_and_once_that_it_closed(self, build: Build) -> None:
        breaker = build(failures=1, seconds=0)
        with capture_logs() as logged:
            fail(breaker, times=5)
            succeed(breaker)
            succeed(breaker)

        told = [(line["event"], line["circuit"]) for line in logged]
        assert told == [("circuit_opened", "tests"), ("circuit_closed", "tests")]


class TestStates:
    def test_are_those_of_all_that_are_in_use(self, build: Build) -> None:
        well, ill = build("well"), build("ill", failures=1)
        fail(ill)
        assert {"well": State.CLOSED, "ill": State.OPEN}.items() <= states().items()

        del well, ill
        gc.collect()

        assert not {"well", "ill"} & states().keys()

    def test_are_the_worst_of_those_with_one_name(self, build: Build) -> None:
        breakers = [build("same", failures=1) for _ in range(3)]
        with suppress(Away), breakers[1].calling():
            raise Away

        assert states()["same"] is State.OPEN
