"""The command as a user runs it, and workers that live in the test's own process."""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy import Engine

from adapters.postgres.queries import JobQueries
from domain.jobs.kinds import JobKind
from domain.jobs.model import OPEN_STATES
from domain.kinds import KINDS
from tests.jobs import build_executor
from worker.command.main import main

MOST_JOBS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401  a test looks into it as it pleases
        return json.loads(self.out)


class Tallyman(Protocol):
    """Run `tallyman` with these arguments."""

    def __call__(self, *arguments: str | Path, stdin: str = "") -> Ran: ...


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give an empty working folder, in which no settings are found."""
    monkeypatch.chdir(tmp_path)
    for name in ("TALLYMAN_DATABASE_URL", "TALLYMAN_BROKER_URL", "TALLYMAN_DATA_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def lonely_tallyman(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tallyman:
    """Give the command where no server runs."""

    def run(*arguments: str | Path, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["tallyman", *map(str, arguments)])
        with TextIOWrapper(BytesIO(stdin.encode())) as text:
            monkeypatch.setattr(sys, "stdin", text)
            with pytest.raises(SystemExit) as end:
                main()
        told = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Ran(code=end.value.code, out=told.out, err=told.err)

    return run


@pytest.fixture
def tallyman(
    lonely_tallyman: Tallyman, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Tallyman:
    """Give the command with a fresh database and no broker."""
    monkeypatch.setenv("TALLYMAN_DATABASE_URL", database_url)
    return lonely_tallyman


RunJobs = Callable[..., int]


@pytest.fixture
def run_jobs(engine: Engine) -> RunJobs:
    """Give what runs an attempt at every open job; it returns how many there were."""

    def run(kinds: Mapping[str, JobKind] = KINDS) -> int:
        executor = build_executor(engine, kinds)
        jobs = JobQueries(engine).newest(states=sorted(OPEN_STATES), limit=MOST_JOBS)
        for name in {job.kind for job in jobs}:
            ids = sorted(job.id for job in jobs if job.kind == name)
            executor.run_dispatched(name, ids, redelivered=False)
        return len(jobs)

    return run


@pytest.fixture
def worker(run_jobs: RunJobs) -> Callable[[], AbstractContextManager[None]]:
    """Give a context in which jobs are run, by a thread, as they come."""

    @contextmanager
    def working() -> Iterator[None]:
        stopping = threading.Event()

        def work() -> None:
            while not stopping.is_set():
                if not run_jobs():
                    stopping.wait(0.01)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    return working
