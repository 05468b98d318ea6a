"""Asking again and again, beside whoever draws: a server that does not answer freezes nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, TypeVar

T = TypeVar("T")

SHARE = 10
"""Times as long as an answer took passes until it is asked for again: it takes 10% of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """Why there is no answer, and since when."""

    reason: str
    since: datetime


@dataclass(kw_only=True)
class Observer(Generic[T]):
    """Keeps the latest answer; the one before stays where there is none."""

    ask: Callable[[], T]
    explain: Callable[[Exception], str | None]
    """Says why there is no answer; None for what must not happen."""
    every: float
    changed: threading.Event
    latest: T | None = None
    away: Away | None = None
    bug: Exception | None = None
    """What must not happen, did: nothing is asked any more."""
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Ask while the context lasts; its end waits for no answer."""
        threading.Thread(target=self._run, name="observer", daemon=True).start()
        try:
            yield
        finally:
            self._stopping.set()

    def look(self) -> None:
        """Ask once."""
        try:
            self.latest = self.ask()
            self.away = None
        except Exception as error:  # noqa: BLE001  whoever draws raises what nobody foresaw
            reason = self.explain(error)
            if reason is None:
                self.bug = error
            elif self.away is None or self.away.reason != reason:
                since = self.away.since if self.away else datetime.now(UTC)
                self.away = Away(reason=reason, since=since)

    def _run(self) -> None:
        wait = 0.0
        while self.bug is None and not self._stopping.wait(wait):
            began = time.monotonic()
            self.look()
            took = time.monotonic() - began
            self.changed.set()
            wait = max(self.every - took, SHARE * took if self.away is None else 0.0, 0.05)
