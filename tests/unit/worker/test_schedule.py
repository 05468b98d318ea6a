"""When beat hands over which slot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Contended, Unavailable
from domain.jobs.errors import IdempotencyConflict, QueueFull
from domain.kinds import KINDS
from worker.schedule import (
    LOOK_SECONDS,
    PAUSE_SECONDS,
    Cron,
    Entry,
    Every,
    LedgerScheduler,
    entries,
)
from worker.settings import Settings

NIGHTLY = Cron(minute="0", hour="3")
MOMENTS = st.integers(1_577_836_800, 2_208_988_800).map(
    lambda seconds: datetime.fromtimestamp(seconds, tz=UTC)
)
TIMINGS = st.one_of(
    st.builds(Every, seconds=st.integers(1, 100_000)),
    st.sampled_from(
        [
            NIGHTLY,
            Cron(),
            Cron(minute="*/15"),
            Cron(minute="30", hour="6", day_of_week="mon"),
            Cron(minute="0", hour="0", day_of_month="29", month_of_year="2"),
        ]
    ),
)


def at(hour: int, minute: int = 0, second: int = 0, *, day: int = 21) -> datetime:
    return datetime(2026, 11, day, hour, minute, second, tzinfo=UTC)


class TestSlot:
    def test_of_an_interval_is_its_floor(self) -> None:
        assert Every(seconds=900).latest(at(10, 44, 59)) == at(10, 30)

    def test_of_a_crontab_is_its_due_minute(self) -> None:
        assert NIGHTLY.latest(at(2, 59, 59)) == at(3, day=20)
        assert NIGHTLY.latest(at(3)) == at(3)
        assert NIGHTLY.latest(at(3, 0, 59)) == at(3)

    def test_that_follows_is_the_next_due_one(self) -> None:
        assert NIGHTLY.following(at(3)) == at(3, day=22)
        assert Every(seconds=60).following(at(3)) == at(3, 1)

    def test_can_be_years_ago(self) -> None:
        leap_day = Cron(minute="0", hour="0", day_of_month="29", month_of_year="2")
        assert leap_day.latest(at(0)) == datetime(2024, 2, 29, tzinfo=UTC)

    @given(timing=TIMINGS, moment=MOMENTS)
    def test_is_the_same_for_every_beat_between_it_and_the_next(
        self, timing: Every | Cron, moment: datetime
    ) -> None:
        slot = timing.latest(moment)
        after = timing.following(slot)
        assert slot <= moment < after
        assert timing.latest(slot) == slot
        assert timing.latest(after - timedelta(microseconds=1)) == slot

    def test_names_the_job(self) -> None:
        entry = Entry(name="prune", kind="k", payload={}, timing=NIGHTLY)
        assert entry.job_id(at(3)) == "sched:prune:2026-11-21T03:00:00Z"


@dataclass(kw_only=True)
class Ledger:
    """Takes jobs, unless it is away."""

    away: Exception | None = None
    taken: set[str] = field(default_factory=set)
    conflicts: bool = False
    full: set[str] = field(default_factory=set)
    """Kinds for which there is no room."""

    def submit(self, kind: str, payload: Mapping[str, Any], *, job_id: str) -> None:
        if self.away:
            raise self.away
        if self.conflicts:
            raise IdempotencyConflict.of(job_id)
        if kind in self.full:
            raise QueueFull.of("q", wanted=1, waiting=1, limit=1, jobs_per_second=0)
        self.taken.add(job_id)


@dataclass(kw_only=True)
class Clock:
    """Shows the time that it is set to."""

    moment: datetime

    def __call__(self) -> datetime:
        return self.moment


class TestLedgerScheduler:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock(moment=at(3, 0, 30))

    @pytest.fixture
    def ledger(self) -> Ledger:
        return Ledger()

    @pytest.fixture
    def scheduler(self, clock: Clock, ledger: Ledger) -> LedgerScheduler:
        return LedgerScheduler(
            Celery(set_as_current=False),
            schedule_entries=(
                Entry(name="minutely", kind="k", payload={}, timing=Every(seconds=60)),
            ),
            submit=ledger.submit,
            clock=clock,
        )

    def test_begins_with_the_latest_slot(self, scheduler: LedgerScheduler, ledger: Ledger) -> None:
        scheduler.tick()
        assert ledger.taken == {"sched:minutely:2026-11-21T03:00:00Z"}

    def test_submits_each_slot_once(
        self, scheduler: LedgerScheduler, ledger: Ledger, clock: Clock
    ) -> None:
        scheduler.tick()
        ledger.taken.clear()
        clock.moment = at(3, 0, 59)
        assert scheduler.tick() == 1
        assert not ledger.taken
        clock.moment = at(3, 1)
        assert scheduler.tick() == LOOK_SECONDS
        assert ledger.taken == {"sched:minutely:2026-11-21T03:01:00Z"}

    @pytest.mark.parametrize("reason", [Unavailable("away"), Contended("another beat has it")])
    def test_misses_no_slot_while_the_ledger_is_away(
        self, scheduler: LedgerScheduler, ledger: Ledger, clock: Clock, reason: Exception
    ) -> None:
        ledger.away = reason
        assert scheduler.tick() == PAUSE_SECONDS
        clock.moment = at(3, 2, 10)
        assert scheduler.tick() == PAUSE_SECONDS
        ledger.away = None
        scheduler.tick()
        assert ledger.taken == {
            f"sched:minutely:2026-11-21T03:0{minute}:00Z" for minute in range(3)
        }

    def test_misses_no_slot_while_a_queue_is_full_and_none_of_another_queue(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        scheduler = LedgerScheduler(
            Celery(set_as_current=False),
            schedule_entries=tuple(
                Entry(name=name, kind=name, payload={}, timing=Every(seconds=60))
                for name in ("full", "other")
            ),
            submit=ledger.submit,
            clock=clock,
        )
        ledger.full = {"full"}
        assert scheduler.tick() == PAUSE_SECONDS
        clock.moment = at(3, 1)
        scheduler.tick()
        assert ledger.taken == {f"sched:other:2026-11-21T03:0{minute}:00Z" for minute in range(2)}
        ledger.taken.clear()
        ledger.full = set()
        scheduler.tick()
        assert ledger.taken == {f"sched:full:2026-11-21T03:0{minute}:00Z" for minute in range(2)}

    def test_leaves_a_slot_to_the_beat_that_took_it_with_other_settings(
        self, scheduler: LedgerScheduler, ledger: Ledger
    ) -> None:
        ledger.conflicts = True
        assert scheduler.tick() == LOOK_SECONDS


class TestSchedule:
    def test_prunes_the_ledger_every_night(self) -> None:
        [prune] = [entry for entry in entries(Settings()) if entry.name == "prune_ledger"]
        assert prune.timing == NIGHTLY
        assert prune.payload == {"older_than_days": Settings().retention_days}

    def test_holds_payloads_that_their_kinds_take(self) -> None:
        for entry in entries(Settings()):
            KINDS[entry.kind].command(**entry.payload)
