"""Looks: what takes its time is asked for in a thread, and who wants to know waits but a moment."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")

SHARE = 20
"""Times as long as a look took passes until the next: it takes 5% of the time."""
KEEP_SECONDS = 60.0
"""What was found so long ago is not told any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[T]):
    """What a look found."""

    value: T
    age_seconds: float
    is_current: bool
    """False where a later look failed, or has not ended in time."""


@dataclass(kw_only=True)
class Looks(Generic[T]):
    """Looks when asked to, no more than once in `every` seconds, and never twice at once."""

    name: str
    look: Callable[[], T]
    every: float
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: threading.Event | None = None
    _next: float = float("-inf")
    _value: T | None = None
    _found_at: float = float("-inf")
    _has_failed: bool = False

    def latest(self, *, patience: float) -> Found[T] | None:
        """Return what was found last, after a look that gets `patience` seconds if one is due."""
        with self._lock:
            if self._running is None and self.clock() >= self._next:
                self._running = threading.Event()
                threading.Thread(target=self._run, args=[self._running], daemon=True).start()
            running = self._running
        is_over = running is None or running.wait(max(patience, 0.0))
        with self._lock:
            age = self.clock() - self._found_at
            if self._value is None or age > KEEP_SECONDS:
                return None
            return Found(
                value=self._value,
                age_seconds=age,
                is_current=is_over and not self._has_failed,
            )

    def _run(self, running: threading.Event) -> None:
        began, every = self.clock(), self.every
        try:
            value = self.look()
        except Exception as error:  # noqa: BLE001  whatever it is, it is told as a part that is away
            if not self._has_failed:
                log.warning("look_failed", look=self.name, error=type(error).__name__)
            with self._lock:
                self._has_failed = True
        else:
            with self._lock:
                self._value, self._found_at, self._has_failed = value, self.clock(), False
                every = max(every, SHARE * (self._found_at - began))
        with self._lock:
            self._next = self.clock() + every
            self._running = None
        running.set()
