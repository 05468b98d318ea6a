"""Giving back: a signal breaks off the job that a process has in hand, and nothing else of it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from domain.errors import Interrupted

SIGNAL = signal.SIGUSR2
"""Told to a worker's child; Celery itself has SIGUSR1 for its time limit."""


@dataclass(kw_only=True)
class Hand:
    """Whether this process has a job in hand."""

    has_job: bool = False

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Have a job in hand within the context.

        Raises:
            Interrupted: The job is to be given back.
        """
        self.has_job = True
        try:
            yield
        finally:
            self.has_job = False

    def listen(self) -> None:
        """Give a job back when the signal comes; call it after the fork."""
        signal.signal(SIGNAL, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        # Between jobs, Celery's own code runs, which nothing may break off.
        if self.has_job:
            self.has_job = False
            raise Interrupted("the worker stops; another takes the job")


hand = Hand()
"""That of this process: there is one, as there is one handler of a signal."""
