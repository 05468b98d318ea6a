"""Real processes where pytest-celery expects containers."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pytest_celery import CeleryTestContainer
from uuid6 import uuid7

T = TypeVar("T")

DEADLINE_SECONDS = 120.0
POLL_SECONDS = 0.02
MOST_BETWEEN_SECONDS = 5.0
"""What counts at most between two answers: a machine that stood still gave nobody time."""


def eventually(probe: Callable[[], T | None], *, what: str, within: float = DEADLINE_SECONDS) -> T:
    """Ask until the answer is true; return it.

    Raises:
        TimeoutError: The answer was still false at the deadline.
    """
    left, asked = within, time.monotonic()
    while not (answer := probe()):
        if left < 0:
            raise TimeoutError(f"{what}: not within {within} seconds, last answer {answer!r}")
        time.sleep(POLL_SECONDS)
        before, asked = asked, time.monotonic()
        left -= min(asked - before, MOST_BETWEEN_SECONDS)
    return answer


class ServerContainer(CeleryTestContainer):
    """A server that other fixtures run: only its address is of interest."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._url = url

    @property
    def id(self) -> str:
        return self._name

    @property
    def name(self) -> str:
        return self._name

    @property
    def celeryconfig(self) -> dict[str, str]:
        return {"url": self._url, "host_url": self._url}

    def ready(self) -> bool:
        return True


class ProcessContainer(CeleryTestContainer):
    """A process in a group of its own, with its log in a file."""

    def __init__(
        self,
        name: str,
        command: Callable[[str], Sequence[str]],
        *,
        folder: Path,
        environment: Mapping[str, str],
        answers: Callable[[str], bool],
    ) -> None:
        """Describe the process; `command` and `answers` are given its id."""
        self._name = name
        self._id = uuid7().hex[-12:]
        self._command = command(self._id)
        self._folder = folder
        self._environment = environment
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def id(self) -> str:
        return self._id

    @property
    def name(self) -> str:
        return self._name

    def worker_name(self) -> str:
        return self._name

    @property
    def log_file(self) -> Path:
        return self._folder / f"{self._name}-{self._id}.log"

    @property
    def status(self) -> str:
        return "running" if self._process and self._process.poll() is None else "exited"

    def reload(self) -> None:
        """Do nothing: `status` asks the process itself."""

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> bool:
        """Wait until it answers."""

        def answers() -> bool:
            assert self.status == "running", f"{self._name} has ended:\n{self.logs()}"
            return self._answers(self._id)

        return eventually(answers, what=f"{self._name} answers")

    def restart(self, timeout: int = 10) -> None:
        self.kill("SIGKILL")
        self.start()
        self.ready()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send a signal to the process; SIGKILL goes to its whole group, as for a container."""
        if self._process is None:
            return
        number = _number(signal)
        if number == _number("SIGKILL"):
            # Before it is waited for, so that its id cannot be another's by now.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            self._process.wait()
            self._process = None
        else:
            self._process.send_signal(number)

    def logs(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def teardown(self) -> None:
        self.kill("SIGKILL")


def _number(name: str | int) -> int:
    return signal.Signals[name] if isinstance(name, str) else name
