"""Signals that ask for an end.

Python runs a handler in the main thread, between any two of its steps. While these hold the lock
of a `threading.Event`, a handler that sets this event waits for itself, for ever. So the handlers
here only put into a `SimpleQueue`, which may be done at any moment, and a thread sets the event.
"""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """Give an event that the first signal sets; a second one raises KeyboardInterrupt."""
    stopping = threading.Event()
    is_told = False

    def tell(set_soon: Callable[[], None]) -> None:
        nonlocal is_told
        if is_told:
            for number in ALL:
                signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt
        is_told = True
        set_soon()

    with _handled(ALL, tell, stopping):
        yield stopping


@contextmanager
def setting(stopping: threading.Event) -> Iterator[None]:
    """Have SIGTERM and SIGINT set `stopping`, however often they come."""
    with _handled((signal.SIGTERM, signal.SIGINT), lambda set_soon: set_soon(), stopping):
        yield


@contextmanager
def _handled(
    numbers: Iterable[signal.Signals],
    handle: Callable[[Callable[[], None]], None],
    stopping: threading.Event,
) -> Iterator[None]:
    """Handle signals by what is given a way to have `stopping` set, from a handler too."""
    told: SimpleQueue[bool] = SimpleQueue()

    def wait() -> None:
        if told.get():
            stopping.set()

    def set_soon() -> None:
        told.put(item=True)

    threading.Thread(target=wait, name="signals", daemon=True).start()
    before = {number: signal.signal(number, lambda *_: handle(set_soon)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        told.put(item=False)
