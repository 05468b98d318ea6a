"""The terminal while a board is shown: keys are not echoed, and all is as it was at the end."""

import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDS = b"qQ\x03"
LFLAG, CC = 3, 6
"""Places in what `tcgetattr` returns."""
NO_KEY = b"\0"


@contextmanager
def keys_ending(stopping: threading.Event, changed: threading.Event) -> Iterator[None]:
    """Have `q` set `stopping`, and a new size of the terminal `changed`."""

    def resized(*_: object) -> None:
        changed.set()

    before = signal.signal(signal.SIGWINCH, resized)
    try:
        with _unechoed() as is_terminal:
            if is_terminal:
                threading.Thread(
                    target=_read, args=(stopping, changed), name="keys", daemon=True
                ).start()
            yield
    finally:
        signal.signal(signal.SIGWINCH, before)


@contextmanager
def _unechoed() -> Iterator[bool]:
    if not sys.stdin.isatty():
        yield False
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    quiet = termios.tcgetattr(descriptor)
    quiet[LFLAG] &= ~(termios.ECHO | termios.ICANON)
    # Stopped by Ctrl-Z, it would leave its screen to the shell.
    quiet[CC][termios.VSUSP] = NO_KEY
    termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
    try:
        yield True
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


def _read(stopping: threading.Event, changed: threading.Event) -> None:
    descriptor = sys.stdin.fileno()
    while not stopping.is_set():
        ready, _, _ = select.select([descriptor], [], [], 0.5)
        if not ready:
            continue
        try:
            pressed = os.read(descriptor, 64)
        except OSError:
            pressed = b""
        if not pressed or set(pressed) & set(ENDS):
            # Nothing to read from a terminal: it is gone.
            stopping.set()
            changed.set()
