"""The ledger's figures as metrics."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import product

from prometheus_client.metrics_core import Metric

from adapters.postgres.job_tally import BOUNDS
from adapters.postgres.ledger_figures import Census, Glance
from adapters.postgres.tallies import EventTally, JobTally
from domain.imports.runs import RowEnd, RunState
from domain.imports.targets import Target
from domain.jobs.model import JobState
from domain.jobs.parking import Reason
from domain.jobs.queues import QUEUES, QueueLevel, QueueSettings
from domain.kinds import KINDS
from domain.measures import IMPORT_ROW, LINE_REFUSED
from worker.metrics import ledger_catalogue as metrics
from worker.metrics.catalogue import family, histogram_family

PLACES = ("queued", "dispatched", "later")
INFINITY = float("inf")

LINE_OUTCOMES = {
    "LineAllocated": "allocated",
    "LineBackordered": "backordered",
    "LineDeallocated": "deallocated",
    LINE_REFUSED: "refused",
}
USER_CHANGES = {
    "UserRegistered": "registered",
    "UserUpdated": "updated",
    "UserStatusChanged": "status_changed",
    "UserErased": "erased",
}
OUTCOMES = (JobState.SUCCEEDED, JobState.REJECTED, JobState.RETRY, JobState.DEAD)
FINISHED = tuple(state for state in JobState if state.is_terminal)
OPEN = tuple(state for state in JobState if not state.is_terminal)


def of_glance(glance: Glance, *, most_waiting: int) -> Iterator[Metric]:
    """Tell of what is read at each look."""
    yield from _of_jobs(glance.tallies.jobs)
    yield from _of_events(glance.tallies.events)
    runs_out = glance.tallies.stock_outs
    yield family(metrics.STOCK_OUT_LINES, (((out.label,), out.number) for out in runs_out))
    yield family(metrics.STOCK_OUT_UNITS, (((out.label,), out.units) for out in runs_out))
    yield from _of_queues(glance, most_waiting=most_waiting)
    yield family(metrics.WORKERS, [((), glance.workers)])
    yield family(metrics.OLDEST_TRANSACTION, [((), glance.oldest_transaction)])


def of_census(
    census: Census, *, settings: Mapping[str, QueueSettings], has_stream: bool
) -> Iterator[Metric]:
    """Tell of what is counted now and then."""
    jobs = _zeros(product(QUEUES, PLACES))
    oldest = _zeros(product(QUEUES, PLACES))
    still_open = _zeros(product(KINDS, OPEN))
    for found in census.open_jobs:
        jobs[found.queue, found.place] += found.jobs
        oldest[found.queue, found.place] = max(oldest[found.queue, found.place], found.oldest)
        still_open[found.kind, found.state] += found.jobs
    yield family(metrics.QUEUE_JOBS, jobs.items())
    # What is to run later is not late: its age would be that of a wish.
    yield family(
        metrics.QUEUE_OLDEST,
        ((where, age) for where, age in oldest.items() if where[1] != "later"),
    )
    yield family(metrics.JOBS_OPEN, still_open.items())
    paused = {name for name, queue in settings.items() if queue.paused_at is not None}
    lags = [found.lag or 0.0 for found in census.open_jobs if found.queue not in paused]
    yield family(metrics.RELAY_LAG, [((), max(lags, default=0.0))])
    dead = _zeros((kind,) for kind in KINDS) | {(kind,): n for kind, n in census.dead.items()}
    yield family(metrics.JOBS_DEAD, dead.items())
    parked = _zeros(product(QUEUES, Reason)) | {**census.parked}
    yield family(metrics.PARKED, parked.items())
    if has_stream:
        yield family(metrics.OUTBOX_EVENTS, [((), census.outbox_events)])
        yield family(metrics.OUTBOX_LAG, [((), census.outbox_lag)])
    yield from _of_imports(census)
    yield family(metrics.DATABASE_BYTES, [((), census.database_bytes)])
    yield family(
        metrics.TABLE_BYTES, (((table,), size) for table, size in census.table_bytes.items())
    )


def up(glance: Glance) -> Mapping[str, bool]:
    """Tell which parts are there, as far as the ledger knows."""
    measured = _measured(glance).values()
    if not measured:
        return {"relay": False}
    return {"relay": True, "broker": all(level.messages is not None for level in measured)}


def _of_jobs(tallied: Iterable[JobTally]) -> Iterator[Metric]:
    finished = _zeros(product(KINDS, FINISHED))
    attempts = _zeros(product(KINDS, OUTCOMES))
    revived = _zeros((kind,) for kind in KINDS)
    errors: Counter[tuple[str, ...]] = Counter()
    waited, took = _Histogram(), _Histogram()
    for tally in tallied:
        state = tally.state
        if state == JobState.QUEUED:
            revived[(tally.kind,)] += tally.jobs
        if state in FINISHED:
            finished[tally.kind, state] += tally.jobs
        if state in OUTCOMES:
            attempts[tally.kind, state] += tally.jobs
            if tally.error is not None:
                errors[tally.kind, tally.error, state] += tally.jobs
        waited.add(tally.kind, tally.jobs, below=tally.waited_below, total=tally.waited)
        took.add(tally.kind, tally.jobs, below=tally.took_below, total=tally.took)
    yield family(metrics.JOBS_FINISHED, finished.items())
    yield family(metrics.JOBS_REVIVED, revived.items())
    yield family(metrics.JOB_ATTEMPTS, attempts.items())
    yield family(metrics.JOB_ERRORS, errors.items())
    yield histogram_family(metrics.JOB_SECONDS, waited.values())
    yield histogram_family(metrics.ATTEMPT_SECONDS, took.values())


def _of_events(tallied: Iterable[EventTally]) -> Iterator[Metric]:
    events: Counter[tuple[str, ...]] = Counter()
    rows = _zeros(product(Target, RowEnd))
    lines = _zeros((outcome,) for outcome in LINE_OUTCOMES.values())
    units = _zeros((outcome,) for outcome in LINE_OUTCOMES.values())
    users = _zeros((change,) for change in USER_CHANGES.values())
    for tally in tallied:
        if tally.name == IMPORT_ROW:
            target, _, end = tally.label.partition("/")
            rows[target, end] += tally.number
        elif tally.name != LINE_REFUSED:
            events[(tally.name,)] += tally.number
        if outcome := LINE_OUTCOMES.get(tally.name):
            lines[(outcome,)] += tally.number
            units[(outcome,)] += tally.units
        if change := USER_CHANGES.get(tally.name):
            users[(change,)] += tally.number
    yield family(metrics.EVENTS, events.items())
    yield family(metrics.IMPORT_ROWS, rows.items())
    yield family(metrics.LINES, lines.items())
    yield family(metrics.LINE_UNITS, units.items())
    yield family(metrics.USERS, users.items())


def _of_queues(glance: Glance, *, most_waiting: int) -> Iterator[Metric]:
    now = datetime.now(tz=UTC)
    settings = [glance.settings.get(name) or QueueSettings(name=name) for name in QUEUES]
    yield family(
        metrics.QUEUE_PAUSED,
        (
            (
                (queue.name,),
                max((now - queue.paused_at).total_seconds(), 1.0) if queue.paused_at else 0,
            )
            for queue in settings
        ),
    )
    yield family(metrics.QUEUE_PRIORITY, (((queue.name,), queue.priority) for queue in settings))
    yield family(
        metrics.QUEUE_LIMIT,
        (((queue.name,), queue.most_waiting or most_waiting) for queue in settings),
    )
    yield family(
        metrics.QUEUE_RATE,
        (
            ((queue.name,), queue.jobs_per_second)
            for queue in settings
            if queue.jobs_per_second is not None
        ),
    )
    yield family(
        metrics.QUEUE_MESSAGES,
        (
            ((name,), level.messages)
            for name, level in _measured(glance).items()
            if level.messages is not None
        ),
    )


def _measured(glance: Glance) -> dict[str, QueueLevel]:
    # What no relay measured lately, nobody knows.
    return {name: level for name, level in glance.levels.items() if level.is_good}


def _of_imports(census: Census) -> Iterator[Metric]:
    runs = _zeros(product(Target, RunState))
    left = _zeros((target,) for target in Target)
    stalled = _zeros((target,) for target in Target)
    for found in census.imports:
        runs[found.target, found.state] = found.runs
        left[(found.target,)] += found.rows_left
        stalled[(found.target,)] = max(stalled[(found.target,)], found.stalled)
    yield family(metrics.IMPORT_RUNS, runs.items())
    yield family(metrics.IMPORT_ROWS_LEFT, left.items())
    yield family(metrics.IMPORT_STALLED, stalled.items())


def _zeros(labels: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
    # A counter that begins at 1 has no increase: Prometheus has to have seen its 0.
    return defaultdict(float, {tuple(map(str, each)): 0.0 for each in labels})


class _Histogram:
    """Times by kind."""

    def __init__(self) -> None:
        self._numbers = {kind: dict.fromkeys((*BOUNDS, INFINITY), 0) for kind in KINDS}
        self._sums: dict[str, float] = defaultdict(float)

    def add(self, kind: str, jobs: int, *, below: float | None, total: float) -> None:
        if below is None:
            return
        numbers = self._numbers.setdefault(kind, dict.fromkeys((*BOUNDS, INFINITY), 0))
        # Another version may have had other classes.
        bound = next(bound for bound in (*BOUNDS, INFINITY) if below <= bound)
        numbers[bound] += jobs
        self._sums[kind] += total

    def values(self) -> Iterator[tuple[tuple[str, ...], Mapping[float, int], float]]:
        for kind, numbers in self._numbers.items():
            yield (kind,), numbers, self._sums[kind]
