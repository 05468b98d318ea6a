"""Processes of ours that die, or stand still and then go on."""

import time
from random import Random

from tests.chaos.arena import RELAYS, WORKERS, Arena
from tests.chaos.faults.fault import Fault, Lane, NotApplied
from tests.chaos.short_leases import LEASE_SECONDS, VISIBILITY_SECONDS


def child_killed(arena: Arena, chance: Random) -> None:
    if not arena.programs.kill_child(chance.choice(WORKERS), chance):
        raise NotApplied("the worker had no children at that moment")


def worker_group_killed(arena: Arena, chance: Random) -> None:
    arena.programs.kill(chance.choice(WORKERS))


def worker_orphaned_its_children(arena: Arena, chance: Random) -> None:
    arena.programs.kill_alone(chance.choice(WORKERS))


def relay_killed(arena: Arena, chance: Random) -> None:
    arena.programs.kill(chance.choice(RELAYS))


def beat_killed(arena: Arena, chance: Random) -> None:
    del chance
    arena.programs.kill("beat")


def worker_group_frozen(arena: Arena, chance: Random) -> None:
    """Have a group stand still until all it held was given to others, then go on as a zombie."""
    longer = max(LEASE_SECONDS, VISIBILITY_SECONDS) + chance.uniform(2.0, 4.0)
    _freeze(arena, chance.choice(WORKERS), longer)


def relay_frozen(arena: Arena, chance: Random) -> None:
    _freeze(arena, chance.choice(RELAYS), chance.uniform(2.0, 5.0))


def _freeze(arena: Arena, name: str, seconds: float) -> None:
    with arena.programs.frozen(name) as stands:
        if not stands:
            raise NotApplied(f"{name} was down at that moment")
        time.sleep(seconds)


FAULTS = (
    Fault(act=child_killed, lane=Lane.PROCESSES, weight=4),
    Fault(act=worker_group_killed, lane=Lane.PROCESSES, weight=2),
    Fault(act=worker_orphaned_its_children, lane=Lane.PROCESSES),
    Fault(act=relay_killed, lane=Lane.PROCESSES, weight=2),
    Fault(act=beat_killed, lane=Lane.PROCESSES),
    Fault(act=worker_group_frozen, lane=Lane.FREEZES, weight=4),
    Fault(act=relay_frozen, lane=Lane.FREEZES, weight=3),
)
