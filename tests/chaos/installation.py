"""A folder in which `tallyman` runs as its users run it, servers included."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.embedded.servers import EmbeddedServers
from tests.e2e.processes import eventually

START_SECONDS = 90.0
COMMAND_SECONDS = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A folder in which `tallyman` is run as its users run it."""

    folder: Path

    @property
    def servers(self) -> EmbeddedServers:
        return EmbeddedServers(self.folder / "data")

    @contextmanager
    def running(self, *arguments: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a command, at the most while the context lasts."""
        process = self.start(*arguments, log=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def start(self, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start a command; what it prints goes to `log`, what it complains of beside it."""
        with log.open("wb") as out, log.with_suffix(".err").open("wb") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "worker.command.main", *arguments],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def run(self, *arguments: str) -> Mapping[str, Any]:
        """Run a command that prints JSON; give that back."""
        log = self.folder / "command.log"
        self.start(*arguments, "--json", log=log).wait(COMMAND_SECONDS)
        return printed(log)

    @contextmanager
    def up(self) -> Iterator[None]:
        """Have everything run while the context lasts, and leave nothing behind."""
        log = self.folder / "up.log"
        running = self.start("up", "--no-flower", log=log)
        try:
            eventually(
                lambda: "Ctrl-C stops it" in log.read_text(), what="it is up", within=START_SECONDS
            )
            yield
        finally:
            down = self.start("down", "--remove-data", log=self.folder / "down.log")
            down.wait(START_SECONDS)
            running.wait(START_SECONDS)

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("TALLYMAN_")
        }
        return {
            **inherited,
            "TALLYMAN_DATA_FOLDER": str(self.folder / "data"),
            "TMPDIR": str(self.folder),
        }


def printed(log: Path) -> Mapping[str, Any]:
    """Read the JSON that a command printed.

    Raises:
        RuntimeError: It printed none; what it complained of.
    """
    text = log.read_text()
    if not text:
        raise RuntimeError(log.with_suffix(".err").read_text())
    told: Mapping[str, Any] = json.loads(text)
    return told
