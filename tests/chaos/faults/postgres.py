"""PostgreSQL, which may crash, stand still, be full, and have no time for anybody."""

import os
import signal
import time
from contextlib import ExitStack, suppress
from random import Random

import psutil
import psycopg

from tests.chaos.arena import Arena
from tests.chaos.evidence import plain
from tests.chaos.faults.fault import Fault, Lane, NotApplied

BALLAST_CHUNK = 1 << 24
AGAIN_SECONDS = 60.0
HELD = 4
"""Rows of each table that are held at a time."""


def postgres_crashed(arena: Arena, chance: Random) -> None:
    """Break off everything at once; the next start recovers what was committed."""
    arena.postgres.stop("immediate")
    time.sleep(chance.uniform(0.0, 1.0))
    arena.heal()


def postgres_away(arena: Arena, chance: Random) -> None:
    """Keep it down for longer than anybody tries again."""
    arena.postgres.stop("fast")
    time.sleep(chance.uniform(5.5, 7.0))
    arena.heal()


def backends_terminated(arena: Arena, chance: Random) -> None:
    """End sessions of Tallyman's, chosen at random, whatever they do."""
    with arena.administer() as connection:
        sessions = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tallyman%'"
        ).fetchall()
        for (pid,) in chance.sample(sessions, k=(len(sessions) + 1) // 2):
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])


def connections_exhausted(arena: Arena, chance: Random) -> None:
    """Take every connection that is left, after breaking off those in use."""
    with ExitStack() as taken:
        for break_off in (False, True):
            if break_off:
                arena.to_postgres.break_off()
            with suppress(psycopg.OperationalError):
                while True:
                    taken.enter_context(psycopg.connect(plain(arena.postgres.url())))
        time.sleep(chance.uniform(0.5, 2.0))


def disk_full(arena: Arena, chance: Random) -> None:
    """Fill the disk to the last byte for a while."""
    _fill_disk(arena, chance.uniform(1.0, 2.5))


def _fill_disk(arena: Arena, seconds: float) -> None:
    if arena.disk is None:
        raise NotApplied("it takes root and the right to mount a file system")
    ballast = arena.disk / "ballast"
    try:
        with suppress(OSError), ballast.open("wb", buffering=0) as full:
            while True:
                full.write(bytes(BALLAST_CHUNK))
        time.sleep(seconds)
    finally:
        ballast.unlink(missing_ok=True)
        _wait_until_it_answers(arena)


def postgres_frozen(arena: Arena, chance: Random) -> None:
    """Have server and sessions stand still: connections are open and nobody answers."""
    pid = arena.postgres.pid
    if pid is None:
        raise NotApplied("PostgreSQL was down at that moment")
    server = psutil.Process(pid)
    everything = [pid, *(child.pid for child in server.children())]
    _signal(everything, signal.SIGSTOP)
    try:
        time.sleep(chance.uniform(1.0, 3.0))
    finally:
        _signal(everything, signal.SIGCONT)


def disk_full_for_long(arena: Arena, chance: Random) -> None:
    """Fill the disk for longer than all attempts at a job take together."""
    _fill_disk(arena, chance.uniform(15.0, 20.0))


def hot_rows_locked(arena: Arena, chance: Random) -> None:
    """Hold the rows of some products and batches for longer than anybody waits for a lock."""
    _hold_rows(arena, chance.uniform(2.0, 7.0))


def hot_rows_locked_for_long(arena: Arena, chance: Random) -> None:
    """Hold them for longer than all attempts at a job take together."""
    _hold_rows(arena, chance.uniform(25.0, 35.0))


def _hold_rows(arena: Arena, seconds: float) -> None:
    with ExitStack() as held:
        try:
            connection = held.enter_context(arena.administer())
            connection.execute("BEGIN")
            for table in ("product", "batch"):
                connection.execute(
                    f"SELECT FROM {table} ORDER BY random() LIMIT {HELD} FOR UPDATE SKIP LOCKED"
                )
        except psycopg.OperationalError as error:
            raise NotApplied("PostgreSQL was down at that moment") from error
        time.sleep(seconds)
        # It may have been ended meanwhile, and holds nothing then.
        with suppress(psycopg.OperationalError):
            connection.execute("ROLLBACK")


def _wait_until_it_answers(arena: Arena) -> None:
    """Start it again where a full disk was too much for it."""
    deadline = time.monotonic() + AGAIN_SECONDS
    while True:
        arena.heal()
        try:
            with arena.administer() as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


FAULTS = (
    Fault(act=postgres_crashed, lane=Lane.SERVERS, weight=2),
    Fault(act=postgres_away, lane=Lane.SERVERS),
    Fault(act=backends_terminated, lane=Lane.SERVERS, weight=2),
    Fault(act=connections_exhausted, lane=Lane.SERVERS),
    Fault(act=disk_full, lane=Lane.SERVERS),
    Fault(act=postgres_frozen, lane=Lane.SERVERS),
    Fault(act=disk_full_for_long, lane=Lane.SERVERS, is_long=True),
    Fault(act=hot_rows_locked, lane=Lane.SERVERS),
    Fault(act=hot_rows_locked_for_long, lane=Lane.FREEZES, is_long=True),
)
