"""Signals that ask for an end, sent to this process."""

import os
import signal
import threading

import pytest

from worker.stop_signals import ALL, setting, until_told

DEADLINE = 10.0


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


class TestUntilTold:
    @pytest.mark.parametrize("number", ALL)
    def test_the_first_sets_the_event(self, number: signal.Signals) -> None:
        with until_told() as stopping:
            assert not stopping.is_set()
            send(number)
            assert stopping.wait(DEADLINE)

    def test_the_second_interrupts_and_a_third_does_nothing(self) -> None:
        with until_told() as stopping:
            send(signal.SIGTERM)
            assert stopping.wait(DEADLINE)
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGTERM)
            send(signal.SIGTERM)

    def test_handlers_are_as_before_at_the_end(self) -> None:
        before = [signal.getsignal(each) for each in ALL]
        with until_told():
            assert [signal.getsignal(each) for each in ALL] != before
        assert [signal.getsignal(each) for each in ALL] == before


class TestSetting:
    def test_comes_as_often_as_it_likes(self) -> None:
        stopping = threading.Event()
        with setting(stopping):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                send(number)
            assert stopping.wait(DEADLINE)

    def test_comes_while_the_lock_of_the_event_is_held(self) -> None:
        stopping = threading.Event()
        with setting(stopping):
            # As anywhere in the middle of `stopping.wait`, of which the lock is a part.
            with vars(stopping)["_cond"]:
                send(signal.SIGTERM)
                assert not stopping.is_set()
            assert stopping.wait(DEADLINE)
