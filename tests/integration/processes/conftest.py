"""Tallyman as its users run it: commands and processes in a folder of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from adapters.embedded.processes import is_gone, wait_until
from adapters.embedded.servers import Addresses, EmbeddedServers
from worker import leftovers

DEADLINE = 120.0
PROGRAMS = ("worker", "relay", "beat", "metrics", "flower")


@dataclass(kw_only=True)
class Running:
    """A command that runs, and what it prints."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def printed(self) -> str:
        return _written(self.out)

    @property
    def complaints(self) -> str:
        return _written(self.err)

    def wait_for(self, words: str) -> None:
        assert wait_until(
            lambda: words in self.printed + self.complaints or self.process.poll() is not None,
            seconds=DEADLINE,
        ), self.printed + self.complaints
        assert words in self.printed + self.complaints, self.printed + self.complaints

    def ends(self, seconds: float = DEADLINE) -> int:
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still runs after {seconds} s: {self.printed}{self.complaints}")


@dataclass(kw_only=True)
class Installation:
    """A data folder, and the commands that use it."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    _started: list[Running] = field(default_factory=list)

    @property
    def data_folder(self) -> Path:
        return self.folder / "data"

    def run(self, *arguments: str, seconds: float = DEADLINE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(arguments),
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self._environment(),
            timeout=seconds,
        )

    def run_until_well(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Ask for health until all is well: the command gives a worker two seconds to answer."""
        asked: list[subprocess.CompletedProcess[str]] = []

        def is_well() -> bool:
            asked[:] = [self.run("health", *arguments)]
            return asked[0].returncode == 0

        assert wait_until(is_well, seconds=DEADLINE), asked[0].stdout + asked[0].stderr
        return asked[0]

    def start(self, *arguments: str, code: str | None = None) -> Running:
        """Start a command, or else `code` as a process of the system's."""
        number = len(self._started)
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        command = self._command(arguments) if code is None else [sys.executable, "-P", "-c", code]
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                command, stdout=to_out, stderr=to_err, cwd=self.folder, env=self._environment()
            )
        running = Running(process=process, out=out, err=err)
        self._started.append(running)
        return running

    def start_up(self, *options: str) -> Running:
        up = self.start("up", *options)
        up.wait_for("Ctrl-C stops it")
        assert "warning" not in up.complaints
        return up

    def pids(self) -> dict[str, int]:
        """Return the ids of the stack's processes that supervisord started, and of itself."""
        found = {}
        for process in leftovers.find(self.data_folder):
            command = _command_of(process)
            if "supervisor.supervisord" in command:
                found["supervisord"] = process.pid
            elif command[-1] in PROGRAMS and "supervisor.supervisord" in _command_of(
                _parent_of(process)
            ):
                found[command[-1]] = process.pid
        return found

    def remains(self) -> list[psutil.Process]:
        """Return what still runs, servers included."""
        servers = EmbeddedServers(self.data_folder)
        pids = [pid for pid in (servers.postgres.pid, servers.valkey.pid) if pid is not None]
        return [*leftovers.find(self.data_folder), *map(psutil.Process, pids)]

    def remove(self) -> None:
        for running in self._started:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait()
        for place in (self.data_folder, self.data_folder / "demo"):
            if place.exists():
                leftovers.kill_all(place)
                EmbeddedServers(place).remove_data()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-P", "-m", "worker.command.main", *arguments]

    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if "TALLYMAN" not in name}
        return {
            **ours,
            "TALLYMAN_DATA_FOLDER": str(self.data_folder),
            "TMPDIR": str(self.folder),
            "TALLYMAN_FLOWER_PORT": "0",
            "TALLYMAN_CONCURRENCY": "2",
            **self.variables,
        }


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Share a data folder among a module's tests: making a cluster is most of a start."""
    made = Installation(folder=tmp_path_factory.mktemp("installation"))
    yield made
    made.remove()


@pytest.fixture
def connected(
    servers: Addresses, database_url: str, broker_url: str, tmp_path: Path
) -> Iterator[Installation]:
    """Give an installation whose servers run already."""
    made = Installation(
        folder=tmp_path,
        variables={"TALLYMAN_DATABASE_URL": database_url, "TALLYMAN_BROKER_URL": broker_url},
    )
    yield made
    made.remove()


def all_gone(processes: list[psutil.Process]) -> bool:
    return wait_until(lambda: all(map(is_gone, processes)), seconds=DEADLINE)


def _written(file: Path) -> str:
    """Read what a process has written so far: its last line may not be whole."""
    return file.read_text(encoding="utf-8", errors="replace")


def _command_of(process: psutil.Process | None) -> list[str]:
    try:
        return (process.cmdline() if process else []) or [""]
    except psutil.Error:
        return [""]


def _parent_of(process: psutil.Process) -> psutil.Process | None:
    try:
        return process.parent()
    except psutil.Error:
        return None
