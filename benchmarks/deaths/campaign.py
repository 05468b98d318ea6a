"""A campaign: one contender works under load while its whole worker is killed again and again."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from benchmarks.deaths.contenders import VISIBILITY_SECONDS, Contender, Place, order_id
from benchmarks.stack import wait_until

ORDERS_A_KILL = 300
"""Handed over before each kill: more than are done until then."""
LONGEST_SECONDS = 0.8
"""A worker works at most this long before it is killed."""
READY_SECONDS = 60
DRAIN_SECONDS = 2 * VISIBILITY_SECONDS + 30
"""How long what is left may take, after the last kill: a message can be in dead hands twice."""
QUIET_SECONDS = 3.0
"""So long nothing may be waiting, taken or done until it is believed that nothing is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """What the kills have cost."""

    name: str
    sent: int
    kills: int
    lost: int
    """Jobs without any effect."""
    doubled: int
    """Jobs with more than one effect."""
    seconds: float
    is_drained: bool
    """False where something was still going on at the deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """Kills `kills` times, at moments that the seed fixes."""

    place: Place
    logs: Path
    kills: int
    seed: int = 7
    hasten: Callable[[Place], None] = lambda _: None
    """Called after the last kill; a test lets timeouts pass there that others wait for."""

    def against(self, contender: Contender) -> Toll:
        """Have the contender work and die, then let it finish, and count its effects."""
        moments = random.Random(self.seed)
        began = time.monotonic()
        with ExitStack() as stack:
            ledger = stack.enter_context(psycopg.connect(self.place.plain_url, autocommit=True))
            broker = stack.enter_context(redis.Redis.from_url(self.place.broker_url))
            broker.flushall()
            for attendant in contender.attendants():
                stack.enter_context(self._process(contender, attendant))
            sent = 0
            for _ in range(self.kills):
                contender.send(range(sent, sent + ORDERS_A_KILL))
                sent += ORDERS_A_KILL
                done = _done(ledger, contender)
                with self._process(contender, contender.worker()):
                    wait_until(lambda: _done(ledger, contender) > done, seconds=READY_SECONDS)  # noqa: B023  asked in this turn alone
                    time.sleep(moments.uniform(0, LONGEST_SECONDS))
            self.hasten(self.place)
            with self._process(contender, contender.worker()):
                is_drained = _drained(ledger, broker, contender)
            effects = _effects(ledger, contender)
        return Toll(
            name=contender.name,
            sent=sent,
            kills=self.kills,
            lost=sum(order_id(number) not in effects for number in range(sent)),
            doubled=sum(count > 1 for count in effects.values()),
            seconds=time.monotonic() - began,
            is_drained=is_drained,
        )

    @contextmanager
    def _process(self, contender: Contender, arguments: Sequence[str]) -> Iterator[None]:
        """Run a module and what it forks; `kill -9` all of it when the context ends."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("TALLYMAN_")
        }
        with (self.logs / f"{arguments[-1]}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**inherited, "TMPDIR": str(self.logs), **contender.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield
        finally:
            # Before it is waited for, so that its id cannot be another's by now.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _drained(
    ledger: "psycopg.Connection[tuple[object, ...]]",
    broker: redis.Redis,
    contender: Contender,
) -> bool:
    """Wait until nothing is left to do; tell whether that came before the deadline."""
    deadline = time.monotonic() + DRAIN_SECONDS
    quiet_since, seen = time.monotonic(), -1
    while time.monotonic() < deadline:
        done = _done(ledger, contender)
        waiting = sum(int(broker.llen(queue)) for queue in ("textbook", "allocation"))
        if done != seen or waiting or broker.hlen("unacked") or _open(ledger):
            quiet_since, seen = time.monotonic(), done
        elif time.monotonic() - quiet_since > QUIET_SECONDS:
            return True
        time.sleep(0.1)
    return False


def _done(ledger: "psycopg.Connection[tuple[object, ...]]", contender: Contender) -> int:
    return sum(_effects(ledger, contender).values())


def _effects(
    ledger: "psycopg.Connection[tuple[object, ...]]", contender: Contender
) -> dict[str, int]:
    rows = ledger.execute(contender.effects.encode()).fetchall()
    return {str(order): int(str(count)) for order, count in rows}


def _open(ledger: "psycopg.Connection[tuple[object, ...]]") -> bool:
    return bool(
        ledger.execute("SELECT EXISTS (SELECT FROM job WHERE finished_at IS NULL)").fetchall()[0][0]
    )
