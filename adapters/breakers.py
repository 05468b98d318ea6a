"""Circuit breakers: who is found to be away is left alone for a moment, and nobody waits for it."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pybreaker
import structlog

log = structlog.get_logger()


NAMES = (
    *("postgresql", "broker_publish", "broker_ask", "event_stream", "redis_mirror"),
    "remote_source",
)
"""Breakers of this system; several may have one name."""


class State(StrEnum):
    """How a breaker stands, from the best to the worst."""

    CLOSED = pybreaker.STATE_CLOSED
    """Calls go through."""
    HALF_OPEN = pybreaker.STATE_HALF_OPEN
    """Calls go through to find out whether the other side is back."""
    OPEN = pybreaker.STATE_OPEN
    """Calls fail at once."""


class CircuitOpen(Exception):
    """The other side was away a moment ago and is not asked again yet."""


class Breaker:
    """Lets calls through until `failures` of them in a row have failed; then none for `seconds`.

    After that calls are tried again: the first that ends decides how it goes on. Only what
    `is_failure` says counts as one; any other exception is an answer, and so a success.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        seconds: float,
        is_failure: Callable[[BaseException], bool] = lambda error: isinstance(error, Exception),
    ) -> None:
        self.name = name
        self._memory = _Memory(pybreaker.STATE_CLOSED)
        self._circuit = pybreaker.CircuitBreaker(
            name=name,
            fail_max=failures,
            reset_timeout=seconds,
            exclude=[lambda error: not is_failure(error)],
            listeners=[_ChangeLog()],
            state_storage=self._memory,
            # Who makes the call that opens it is told what went wrong, as everybody before.
            throw_new_error_on_trip=False,
        )
        _known.append(weakref.ref(self, _known.remove))

    @property
    def state(self) -> State:
        return State(self._circuit.current_state)

    @property
    def is_resting(self) -> bool:
        """Tell whether a call would fail now without being made."""
        opened_at = self._memory.opened_at
        rest = timedelta(seconds=self._circuit.reset_timeout)
        return bool(self.state is State.OPEN and opened_at and datetime.now(UTC) < opened_at + rest)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Make a call within the context.

        Raises:
            CircuitOpen: The call is not made.
        """
        try:
            # Not `call`: it holds a lock until the call ends, so an application's threads would
            # submit one after the other.
            with self._circuit.calling():
                yield
        except pybreaker.CircuitBreakerError:
            raise CircuitOpen(f"{self.name} was away a moment ago and is left alone") from None


_known: list["weakref.ref[Breaker]"] = []


def states() -> dict[str, State]:
    """Return how this process's breakers stand; of several with one name, the worst."""
    ranks = list(State)
    found: dict[str, State] = {}
    for breaker in [reference() for reference in list(_known)]:
        if breaker is not None:
            state = breaker.state
            found[breaker.name] = max(found.get(breaker.name, state), state, key=ranks.index)
    return found


Listener = Callable[[str, State, float], None]
"""Told the name of a breaker, its new state, and for how many seconds it stays open if it does."""

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Have `listener` told whenever one of this process's breakers changes."""
    _listeners.append(listener)


class _Memory(pybreaker.CircuitMemoryStorage):
    """Forgets when it was opened if that is yet to come: somebody has set the clock back."""

    @property
    def opened_at(self) -> datetime | None:
        opened_at = super().opened_at
        return opened_at if opened_at and opened_at <= datetime.now(UTC) else None

    @opened_at.setter
    def opened_at(self, moment: datetime) -> None:
        self._opened_at = moment


class _ChangeLog(pybreaker.CircuitBreakerListener):
    """Tells once when a breaker opens and once when it closes, however often it tries between."""

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        match old_state.name if old_state else None, new_state.name:
            case State.CLOSED, State.OPEN:
                log.warning("circuit_opened", circuit=cb.name, retry_seconds=cb.reset_timeout)
            case State.HALF_OPEN, State.CLOSED:
                log.info("circuit_closed", circuit=cb.name)
            case _:
                pass
        for listener in _listeners:
            listener(str(cb.name), State(new_state.name), cb.reset_timeout)
