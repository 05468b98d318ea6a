"""Jobs that run in threads of their own and stop where they are told, on real PostgreSQL."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from threading import Event, Thread
from time import monotonic
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine, text

from adapters.payloads import Payloads
from adapters.postgres.persistence import Persistently, is_contention
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.executor import Executor, Report
from domain.jobs.model import JobState, Submission
from domain.jobs.retries import Backoff
from domain.kinds import KINDS
from domain.messages import Command
from tests.conftest import wait_until

T = TypeVar("T")
SECONDS = 60.0

_JOB_NUMBERS: Iterator[int] = count(1)
_PAYLOADS = Payloads(KINDS)


@dataclass(kw_only=True)
class Contention:
    """Runs transactions as workers do, for as long as this machine needs; keeps what went wrong."""

    errors: list[BaseException] = field(default_factory=list)

    def __call__(self, transaction: Callable[[], T], *, patient: bool = True) -> T:
        def noting() -> T:
            try:
                return transaction()
            except Exception as error:
                if is_contention(error):
                    self.errors.append(error)
                raise

        return Persistently(seconds=SECONDS)(noting, patient=patient)


def a_job(command: Command, job_id: str | None = None) -> Submission:
    return Submission(
        job_id=job_id or f"job-{next(_JOB_NUMBERS)}",
        kind=command.kind,
        payload=orjson.loads(orjson.dumps(command)),
    )


def an_executor(
    engine: Engine,
    *,
    contention: Contention | None = None,
    reached: Callable[[str], None] = lambda _: None,
) -> Executor:
    return Executor(
        kinds=KINDS,
        begin_work=BeginPostgresWork(engine=engine, backoff=Backoff(), reached=reached),
        decode=_PAYLOADS.decode,
        persistently=contention or Contention(),
        worker="test",
        reached=reached,
    )


def run(engine: Engine, *commands: Command) -> list[Report]:
    """Run jobs one after the other."""
    executor = an_executor(engine)
    return [executor.run_submitted(a_job(each), redelivered=False) for each in commands]


def told(report: Report) -> tuple[str, Mapping[str, Any]]:
    """Return what the job's producer is told, in a form that can be compared."""
    assert report.exception is None, report.exception
    job = report.job
    if job.state is JobState.SUCCEEDED:
        assert job.result is not None
        return "ok", job.result
    assert job.state is JobState.REJECTED, job
    assert job.error is not None
    return job.error.type, job.error.details


class Actor:
    """A worker in a thread of its own; it stops at the boundary that it is told to stop at."""

    def __init__(
        self,
        engine: Engine,
        *jobs: Submission,
        stop: int | str | None = None,
        watch: Callable[[str], None] = lambda _: None,
        together: bool = False,
    ) -> None:
        """Run `jobs`, in one batch where `together`; `watch` is told of each boundary.

        `stop` names a boundary, to stop at when it is first reached, or counts them from 0.
        """
        self.points: list[str] = []
        self.reports: list[Report] = []
        self.contention = Contention()
        self._jobs = jobs
        self._stop = stop
        self._watch = watch
        self._together = together
        self._stopped, self._go_on, self._ended = Event(), Event(), Event()
        self._error: BaseException | None = None
        self._executor = an_executor(engine, contention=self.contention, reached=self._reached)
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> "Actor":
        self._thread.start()
        return self

    def wait_until_stopped(self) -> "Actor":
        """Wait until it stands where it was told to stop, or has ended before."""
        assert self._stopped.wait(SECONDS), self.points
        return self

    def stops(self, observer: Connection) -> bool:
        """Wait until it stops or ends (true), or waits for a lock (false); others stand still."""
        return _comes(self._stopped, observer)

    def ends(self, observer: Connection) -> bool:
        """Let it go on until it ends (true), or waits for a lock (false); others stand still."""
        self._go_on.set()
        return _comes(self._ended, observer)

    def let_go(self) -> None:
        self._go_on.set()

    def end(self) -> Report:
        """Let it go on, wait for its end and return its first report."""
        self._go_on.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), self.points
        if self._error:
            raise self._error
        return self.reports[0]

    def _run(self) -> None:
        try:
            if self._together:
                self.reports += self._executor.run_dispatched(
                    self._jobs[0].kind, [job.job_id for job in self._jobs], redelivered=False
                )
            else:
                for job in self._jobs:
                    self.reports.append(self._executor.run_submitted(job, redelivered=False))
        except BaseException as error:  # noqa: BLE001  raised again where the test waits for it
            self._error = error
        finally:
            self._ended.set()
            self._stopped.set()

    def _reached(self, point: str) -> None:
        self._watch(point)
        stops_here = self._stop in (point, len(self.points)) and not self._stopped.is_set()
        self.points.append(point)
        if stops_here:
            self._stopped.set()
            assert self._go_on.wait(SECONDS), "nobody let it go on"


def stopped(engine: Engine, command: Command | Submission, *, at: str) -> Actor:
    """Return an actor that stands at this boundary, the first time that it reached it."""
    job = command if isinstance(command, Submission) else a_job(command)
    return Actor(engine, job, stop=at).start().wait_until_stopped()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Two commands that meet, and what was there before."""

    before: Sequence[Command]
    first: Command
    second: Command


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """How two jobs fared that met at one interleaving."""

    number: int
    answers: tuple[tuple[str, Mapping[str, Any]], tuple[str, Mapping[str, Any]]]
    observed: Mapping[int, object]
    """What others saw just before each committed, 0 for the first and 1 for the second."""


def every_interleaving(
    engine: Engine, stage: Callable[[int], Scene], *, observe: str | None = None
) -> Iterator[Meeting]:
    """Let two jobs meet at each pair of their boundaries, whoever comes or goes first.

    One comes and stops at a boundary. The other comes and stops at one of its own, or waits for a
    lock. Then one of them goes on to its end, or until it waits for a lock, before the other may.
    `stage` is given a number to tell the meetings apart, and so is `observe`.
    """
    numbers = count(1)
    lengths = _boundaries(engine, stage(0))
    with engine.connect() as connection:
        observer = connection.execution_options(isolation_level="AUTOCOMMIT")
        for leader, follower in ((0, 1), (1, 0)):
            for leader_stop in range(lengths[leader]):
                for follower_stop in range(lengths[follower]):
                    stops = {leader: leader_stop, follower: follower_stop}
                    for goes_first in (leader, follower):
                        number = next(numbers)
                        encounter = _Encounter(engine, observer, number, stage(number), observe)
                        comes = encounter.play(leader, follower, stops, goes_first)
                        yield encounter.meeting()
                        if not comes:
                            break
                    if not comes:
                        # Nor would it come to a later boundary while the leader stands here.
                        break


def _boundaries(engine: Engine, scene: Scene) -> list[int]:
    run(engine, *scene.before)
    actors = [Actor(engine, a_job(command)) for command in (scene.first, scene.second)]
    for actor in actors:
        actor.start().end()
    return [len(actor.points) for actor in actors]


class _Encounter:
    def __init__(
        self, engine: Engine, observer: Connection, number: int, scene: Scene, observe: str | None
    ) -> None:
        self._engine = engine
        self._observer = observer
        self._number = number
        self._scene = scene
        self._observe = observe
        self._observed: dict[int, object] = {}
        self._actors: list[Actor] = []

    def play(self, leader: int, follower: int, stops: Mapping[int, int], goes_first: int) -> bool:
        """Let them meet; tell whether the follower came to its boundary while the leader stood."""
        run(self._engine, *self._scene.before)
        self._actors = [
            Actor(self._engine, a_job(command), stop=stops[place], watch=self._watcher(place))
            for place, command in enumerate((self._scene.first, self._scene.second))
        ]
        self._actors[leader].start().wait_until_stopped()
        comes = self._actors[follower].start().stops(self._observer)
        if comes:
            self._actors[goes_first].ends(self._observer)
        for actor in self._actors:
            actor.let_go()
        for actor in self._actors:
            actor.end()
            assert not actor.contention.errors, actor.contention.errors
        return comes

    def meeting(self) -> Meeting:
        first, second = (told(actor.reports[0]) for actor in self._actors)
        return Meeting(number=self._number, answers=(first, second), observed=self._observed)

    def _watcher(self, place: int) -> Callable[[str], None]:
        def watch(point: str) -> None:
            if point == "commit.ready" and self._observe is not None:
                with self._engine.connect() as other:
                    seen = other.execute(text(self._observe), {"number": str(self._number)})
                    self._observed[place] = seen.scalar()

        return watch


def wait_until_they_wait(connection: Connection, count: int) -> None:
    """Wait until so many transactions wait for a lock."""
    observer = connection.execution_options(isolation_level="AUTOCOMMIT")
    wait_until(lambda: _waiting(observer) >= count, seconds=SECONDS)


def _comes(event: Event, observer: Connection) -> bool:
    deadline = monotonic() + SECONDS
    while not event.wait(0.002):
        assert monotonic() < deadline, "neither came nor waits for a lock"
        if _waiting(observer):
            return event.is_set()
    return True


def _waiting(observer: Connection) -> int:
    question = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return int(observer.execute(question).scalar_one())


def deadlocks(engine: Engine) -> int:
    """Return how many deadlocks PostgreSQL broke in this database, once all have reported."""
    engine.dispose()
    with engine.connect() as connection:
        others = text(
            "SELECT count(*) = 0 FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )

        def all_gone() -> bool:
            connection.rollback()
            return bool(connection.execute(others).scalar_one())

        wait_until(all_gone, seconds=SECONDS)
        connection.rollback()
        question = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(connection.execute(question).scalar_one())
