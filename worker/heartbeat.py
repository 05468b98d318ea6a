"""Heartbeats: a file that a process touches each time round, so that others see it is at work."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import structlog

log = structlog.get_logger()

FOLDER = "heartbeats"
FRESH_SECONDS = 15.0
"""A process that is at work touches its file far more often than this."""


@dataclass(kw_only=True)
class Heartbeat:
    """The file of one process; it is gone when the process ended well."""

    data_folder: Path
    process: str
    _complained: bool = field(default=False, init=False)
    _beaten_at: float = field(default_factory=time.monotonic, init=False)

    @property
    def file(self) -> Path:
        return self.data_folder / FOLDER / f"{self.process}.{os.getpid()}"

    def beat(self) -> None:
        """Note that the process is at work; where that cannot be written, work goes on."""
        self._beaten_at = time.monotonic()
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.touch()
        except OSError as error:
            if not self._complained:
                self._complained = True
                log.warning("heartbeat_not_written", file=str(self.file), error=str(error))

    @property
    def age_seconds(self) -> float:
        """Return the time since this process was last at work."""
        return time.monotonic() - self._beaten_at

    def stop(self) -> None:
        """Remove the file, and those of processes that are gone."""
        for file in _files(self.data_folder, self.process):
            if file == self.file or not psutil.pid_exists(_pid_of(file)):
                file.unlink(missing_ok=True)


def is_fresh(data_folder: Path, process: str) -> bool:
    """Tell whether a process of this name, on this machine, was at work a moment ago."""
    return any(
        psutil.pid_exists(_pid_of(file)) and _age_of(file) < FRESH_SECONDS
        for file in _files(data_folder, process)
    )


def _files(data_folder: Path, process: str) -> list[Path]:
    return [
        file for file in (data_folder / FOLDER).glob(f"{process}.*") if file.suffix[1:].isdigit()
    ]


def _pid_of(file: Path) -> int:
    return int(file.suffix[1:])


def _age_of(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
