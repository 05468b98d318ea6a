"""The nemesis: breaks one thing after the other, in an order that its seed fixes."""

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from random import Random

from tests.chaos.arena import Arena
from tests.chaos.faults import network, postgres, processes, valkey
from tests.chaos.faults.fault import Fault, Lane, NotApplied
from tests.chaos.history import History

OVERCOME_SECONDS = 60.0
"""How long the next fault waits for the last one to be overcome."""
LOOK_SECONDS = 0.25

_LEFT_OF_A_FAULT = """
SELECT FROM job
WHERE state IN ('queued', 'retry') AND created_at <= to_timestamp(%s) LIMIT 1"""

FAULTS = (*processes.FAULTS, *valkey.FAULTS, *postgres.FAULTS, *network.FAULTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long the nemesis goes on, and how much time it leaves between two faults."""

    seed: int
    seconds: float | None = None
    """None: until each fault but the long ones was brought about once, whatever its weight."""
    pauses: Mapping[Lane, tuple[float, float]]
    """Seconds between two faults of a lane, from least to most."""
    disk_size: str = "1200m"
    """Of PostgreSQL's disk, which can be filled, and takes as much memory then."""
    alone: bool = False
    """Each fault once, and only when nothing is left of the one before, whatever its lane."""

    def chance(self, lane: Lane) -> Random:
        return Random(f"{self.seed} {lane}")

    def faults(self, lane: Lane, chance: Random) -> Iterator[Fault]:
        """Draw the faults of a lane: from one deck after the other, each shuffled."""
        own = [fault for fault in FAULTS if fault.lane is lane]
        if self.seconds is None:
            short = [fault for fault in own if not fault.is_long]
            yield from chance.sample(short, k=len(short))
            return
        deck = [fault for fault in own for _ in range(fault.weight)]
        while True:
            yield from chance.sample(deck, k=len(deck))


@dataclass(kw_only=True)
class Nemesis:
    """Breaks what an arena holds; each lane in a thread of its own."""

    arena: Arena
    plan: Plan
    not_applied: dict[str, str] = field(default_factory=dict)
    """Why, by kind, of faults that could not be brought about."""
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Go on to the end of the plan, and leave everything mended.

        Raises:
            Exception: A fault could not be mended: that is an error of the suite's.
        """
        if self.plan.alone:
            self._run_one_at_a_time()
        else:
            self._run_lanes()
        self.arena.heal()

    def _run_one_at_a_time(self) -> None:
        chance = Random(self.plan.seed)
        faults = [fault for fault in FAULTS if not fault.is_long]
        with History(self.arena.history / "nemesis.jsonl") as told:
            for fault in chance.sample(faults, k=len(faults)):
                self._bring_about(fault, chance, told)
                self._wait_until_overcome(time.time())

    def _run_lanes(self) -> None:
        with ThreadPoolExecutor(max_workers=len(Lane)) as threads:
            lanes = [threads.submit(self._run, lane) for lane in Lane]
            try:
                wait(lanes, return_when=FIRST_EXCEPTION)
            finally:
                self._stopping.set()
        for lane in lanes:
            lane.result()

    def _run(self, lane: Lane) -> None:
        chance = self.plan.chance(lane)
        deadline = time.monotonic() + (self.plan.seconds or float("inf"))
        with History(self.arena.history / f"nemesis-{lane}.jsonl") as told:
            for fault in self.plan.faults(lane, chance):
                if self._stopping.is_set() or time.monotonic() > deadline:
                    break
                self._bring_about(fault, chance, told)
                self._stopping.wait(chance.uniform(*self.plan.pauses[lane]))

    def _bring_about(self, fault: Fault, chance: Random, told: History) -> None:
        # Of its own, so that what one fault draws does not change which comes next.
        luck = Random(chance.random())
        began = time.time()
        try:
            fault.act(self.arena, luck)
        except NotApplied as reason:
            self.not_applied[fault.kind] = str(reason)
            return
        told.fault(fault.kind, began=began, ended=time.time())

    def _wait_until_overcome(self, ended: float) -> None:
        """Wait until all is finished that was accepted before a fault ended."""
        deadline = time.monotonic() + OVERCOME_SECONDS
        with self.arena.administer() as connection:
            while connection.execute(_LEFT_OF_A_FAULT, [ended]).fetchall():
                if time.monotonic() > deadline:
                    break
                time.sleep(LOOK_SECONDS)
