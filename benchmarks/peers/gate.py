"""A start line: processes get ready, say so, and wait for the shot."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

READY = "ready"


def wait_for_start() -> None:
    """Tell whoever started this process that it is ready, and wait until it may begin."""
    print(READY, flush=True)
    sys.stdin.readline()


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Processes that are ready to begin."""

    members: Sequence[subprocess.Popen[str]]

    def start(self) -> None:
        """Let all of them begin."""
        for member in self.members:
            _pipe(member.stdin).write("\n")
            _pipe(member.stdin).flush()

    def race(self) -> float:
        """Let all of them begin, and wait until they have ended; return the seconds it took."""
        began = time.perf_counter()
        self.start()
        for member in self.members:
            assert member.wait() == 0, f"{member.args!r} ended with {member.returncode}"
        return time.perf_counter() - began


@contextmanager
def crew(*arguments: str, processes: int, environment: dict[str, str], log: Path) -> Iterator[Crew]:
    """Run so many processes of a Python module until the context ends; give them once ready.

    Each is told its number, from 0, as its last argument.
    """
    with ExitStack() as stack:
        output = stack.enter_context(log.open("ab"))
        members = [
            subprocess.Popen(
                [sys.executable, "-m", *arguments, str(number)],
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )
            for number in range(processes)
        ]
        for member in members:
            stack.callback(_end, member)
        for member in members:
            said = _pipe(member.stdout).readline().strip()
            assert said == READY, f"{arguments} said {said!r}; see {log}:\n{_tail(log)}"
        yield Crew(members=members)


def _end(member: subprocess.Popen[str]) -> None:
    # What it did is checked by now; how it would like to end is nobody's measurement.
    if member.poll() is None:
        os.killpg(member.pid, signal.SIGKILL)
    member.wait()
    _pipe(member.stdin).close()
    _pipe(member.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
