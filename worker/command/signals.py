"""Ctrl-C and SIGTERM: the first asks for an orderly end, the second for one at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """Give an event that the first signal sets; a second one raises KeyboardInterrupt."""
    stopping = threading.Event()

    def told(_: int, __: FrameType | None) -> None:
        if stopping.is_set():
            for number in STOPS:
                signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, told) for number in STOPS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
