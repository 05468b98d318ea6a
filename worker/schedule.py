"""Beat: what the clock asks for, handed to the ledger under an id that names its time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import structlog
from celery import Celery
from celery.beat import Scheduler
from celery.schedules import crontab

from adapters.sources import descriptions
from domain.errors import Contended, DomainError, Unavailable
from domain.imports.commands import ScanSource
from domain.imports.sources import Source
from domain.jobs.commands import PruneLedger
from domain.jobs.errors import IdempotencyConflict, QueueFull
from worker.settings import Settings

log = structlog.get_logger()

LOOK_SECONDS = 5.0
"""Beat looks at the clock at least this often."""
PAUSE_SECONDS = 2.0
"""How long beat waits before it hands over again what the ledger could not take."""


class Timing(Protocol):
    """The times at which something is due: its slots."""

    def latest(self, moment: datetime) -> datetime:
        """Return the last slot at or before `moment`."""

    def following(self, slot: datetime) -> datetime:
        """Return the first slot after `slot`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """Slots a fixed time apart, counted from 1970, so that every beat has the same."""

    seconds: int

    def latest(self, moment: datetime) -> datetime:
        elapsed = int(moment.timestamp())
        return datetime.fromtimestamp(elapsed - elapsed % self.seconds, tz=UTC)

    def following(self, slot: datetime) -> datetime:
        return slot + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """Slots at the minutes that a crontab names, in UTC."""

    minute: str = "*"
    hour: str = "*"
    day_of_month: str = "*"
    month_of_year: str = "*"
    day_of_week: str = "*"

    def latest(self, moment: datetime) -> datetime:
        # A crontab only looks forward: begin ever earlier until that meets a slot in time.
        for days in (0.05, 1.5, 32, 366 * 8):
            slot = self.following(moment - timedelta(days=days))
            if slot <= moment:
                break
        else:
            raise ValueError(f"{self} names no minute of the last eight years")
        while (after := self.following(slot)) <= moment:
            slot = after
        return slot

    def following(self, slot: datetime) -> datetime:
        begin, delta, _ = self._crontab().remaining_delta(slot)
        due: datetime = begin + delta
        return due.astimezone(UTC).replace(second=0, microsecond=0)

    def _crontab(self) -> crontab:
        return crontab(
            minute=self.minute,
            hour=self.hour,
            day_of_month=self.day_of_month,
            month_of_year=self.month_of_year,
            day_of_week=self.day_of_week,
            app=_CLOCK,
        )


# A crontab asks an app for its time zone, and makes one up where it is given none.
_CLOCK = Celery("clock", set_as_current=False)
_CLOCK.conf.update(timezone="UTC", enable_utc=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A job that the clock asks for."""

    name: str
    kind: str
    payload: Mapping[str, Any]
    timing: Timing

    def job_id(self, slot: datetime) -> str:
        """Name the job after its slot: the ledger drops what a second beat hands over."""
        return f"sched:{self.name}:{slot:%Y-%m-%dT%H:%M:%SZ}"


def entries(settings: Settings) -> tuple[Entry, ...]:
    """Return the schedule."""
    return (
        Entry(
            name="prune_ledger",
            kind=PruneLedger.kind,
            payload={"older_than_days": settings.retention_days},
            timing=Cron(minute="0", hour="3"),
        ),
    )


def source_entries(folder: Path) -> tuple[Entry, ...]:
    """Return the sources that are described in a folder and looked at by the clock.

    One whose description cannot be used is left out, and the log says why.
    """
    found = []
    for name in descriptions.names(folder):
        try:
            source = descriptions.read(folder, name)
            timing = _timing_of(source)
        except (DomainError, ValueError) as error:
            log.warning("source_not_usable", source=name, error=str(error))
            continue
        if timing is not None:
            found.append(
                Entry(
                    name=f"scan:{name}",
                    kind=ScanSource.kind,
                    payload={"source": name},
                    timing=timing,
                )
            )
    return tuple(found)


def _timing_of(source: Source) -> Timing | None:
    if source.every_seconds is not None:
        return Every(seconds=source.every_seconds)
    if source.cron is None:
        return None
    minute, hour, day_of_month, month_of_year, day_of_week = source.cron.split()
    cron = Cron(
        minute=minute,
        hour=hour,
        day_of_month=day_of_month,
        month_of_year=month_of_year,
        day_of_week=day_of_week,
    )
    cron.latest(now())
    return cron


class Submit(Protocol):
    """Hands a job to the ledger, as `Producer.submit` does."""

    def __call__(self, kind: str, payload: Mapping[str, Any], *, job_id: str) -> object: ...


def now() -> datetime:
    """Read the clock."""
    return datetime.now(tz=UTC)


class LedgerScheduler(Scheduler):
    """Submits each slot once, in order; a slot that could not be submitted stays due.

    It keeps nothing: at its start the latest slot of each entry is due as well, since no
    other beat may have run then, and the ledger knows whether one did.
    """

    def __init__(
        self,
        app: Celery,
        *,
        schedule_entries: tuple[Entry, ...],
        submit: Submit,
        described: Callable[[], tuple[Entry, ...]] = tuple,
        clock: Callable[[], datetime] = now,
        alive: Callable[[], None] = lambda: None,
        away: Callable[[str | None], None] = lambda _: None,
        reached: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> None:
        self._submit = submit
        self._clock = clock
        self._alive = alive
        self._tell_away = away
        self._reached = reached
        self._is_away = False
        self._refused: set[str] = set()
        self._fixed = schedule_entries
        self._described = described
        self._due: dict[str, datetime] = {}
        self._entries(clock())
        super().__init__(app, **{**options, "lazy": True, "max_interval": LOOK_SECONDS})

    def tick(self, *_: object, **__: object) -> float:
        """Submit what is due; return the seconds until the next look."""
        self._alive()
        moment = self._clock()
        current = self._entries(moment)
        for entry in current:
            while (slot := self._due[entry.name]) <= moment:
                try:
                    self._hand_over(entry, slot)
                except (Unavailable, Contended) as error:
                    if not self._is_away:
                        log.warning("ledger_away", job_id=entry.job_id(slot), error=str(error))
                    self._is_away = True
                    # Another beat, which holds still, may be in the middle of the same slot.
                    is_held = isinstance(error, Contended)
                    self._tell_away("another holds its job" if is_held else "PostgreSQL is away")
                    return PAUSE_SECONDS
                except QueueFull as full:
                    # The slots of other queues are not to wait for this one.
                    if entry.name not in self._refused:
                        log.warning("queue_full", job_id=entry.job_id(slot), error=str(full))
                    self._refused.add(entry.name)
                    break
                self._refused.discard(entry.name)
                self._due[entry.name] = entry.timing.following(slot)
        waits = [(self._due[entry.name] - moment).total_seconds() for entry in current]
        # What is still due was refused for want of room.
        return min([LOOK_SECONDS, *(wait if wait > 0 else PAUSE_SECONDS for wait in waits)])

    def _entries(self, moment: datetime) -> tuple[Entry, ...]:
        """Return what is scheduled now; what is new is due at its latest slot."""
        current = (*self._fixed, *self._described())
        for entry in current:
            self._due.setdefault(entry.name, entry.timing.latest(moment))
        return current

    def _hand_over(self, entry: Entry, slot: datetime) -> None:
        job_id = entry.job_id(slot)
        try:
            self._submit(entry.kind, entry.payload, job_id=job_id)
            self._reached("slot.submitted")
        except IdempotencyConflict:
            # Another beat, with other settings, was first.
            log.info("slot_taken", job_id=job_id)
        else:
            log.info("slot_submitted", job_id=job_id, kind=entry.kind)
        self._is_away = False
        self._tell_away(None)
