"""The way to the servers: slow, cut, half-open, and losing what matters most."""

import time
from random import Random

from tests.chaos.arena import Arena
from tests.chaos.faults.fault import Fault, Lane
from tests.chaos.proxy import Lost, Trap

PRODUCER = "tallyman producer"
SHARE = 1 / 3
"""Of the commits of workers and relays that meet with this, while any do."""


def postgres_slow(arena: Arena, chance: Random) -> None:
    with arena.to_postgres.slow(chance.uniform(0.02, 0.1)):
        time.sleep(chance.uniform(1.0, 3.0))


def postgres_cut(arena: Arena, chance: Random) -> None:
    with arena.to_postgres.cut():
        time.sleep(chance.uniform(0.2, 2.0))


def postgres_half_open(arena: Arena, chance: Random) -> None:
    with arena.to_postgres.half_open():
        time.sleep(chance.uniform(0.5, 2.5))
        arena.to_postgres.break_off()


def valkey_cut(arena: Arena, chance: Random) -> None:
    with arena.to_valkey.cut():
        time.sleep(chance.uniform(0.2, 2.0))


def valkey_slow(arena: Arena, chance: Random) -> None:
    with arena.to_valkey.slow(chance.uniform(0.02, 0.1)):
        time.sleep(chance.uniform(1.0, 3.0))


def producers_lose_answers(arena: Arena, chance: Random) -> None:
    """Have producers' commits made and the answers lost, for longer than one tries again."""
    _lose_of_producers(arena, chance, Lost.REPLY)


def producers_lose_commits(arena: Arena, chance: Random) -> None:
    """Have producers' commits lost before they are made."""
    _lose_of_producers(arena, chance, Lost.REQUEST)


def workers_lose_answers(arena: Arena, chance: Random) -> None:
    """Have some commits of workers and relays made and the answers lost."""
    _lose_of_workers(arena, chance, Lost.REPLY)


def workers_lose_commits(arena: Arena, chance: Random) -> None:
    """Have some commits of workers and relays lost before they are made."""
    _lose_of_workers(arena, chance, Lost.REQUEST)


def _lose_of_producers(arena: Arena, chance: Random, loses: Lost) -> None:
    trap = Trap(loses=loses, catches=lambda application: application == PRODUCER)
    with arena.to_postgres.losing_commits(trap):
        time.sleep(chance.uniform(2.0, 6.0))


def _lose_of_workers(arena: Arena, chance: Random, loses: Lost) -> None:
    def catches(application: str) -> bool:
        is_ours = application.startswith("tallyman") and application != PRODUCER
        return is_ours and chance.random() < SHARE

    with arena.to_postgres.losing_commits(Trap(loses=loses, catches=catches)):
        time.sleep(chance.uniform(1.0, 3.0))


FAULTS = (
    Fault(act=postgres_slow, lane=Lane.SERVERS),
    Fault(act=postgres_cut, lane=Lane.SERVERS),
    Fault(act=postgres_half_open, lane=Lane.SERVERS),
    Fault(act=valkey_cut, lane=Lane.SERVERS),
    Fault(act=valkey_slow, lane=Lane.SERVERS),
    Fault(act=producers_lose_answers, lane=Lane.SERVERS, weight=2),
    Fault(act=producers_lose_commits, lane=Lane.SERVERS),
    Fault(act=workers_lose_answers, lane=Lane.SERVERS, weight=2),
    Fault(act=workers_lose_commits, lane=Lane.SERVERS),
)
