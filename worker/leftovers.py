"""Processes of one stack, wherever they hang: they carry its mark in their environment."""

import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from adapters.embedded.processes import end, is_gone, wait_until

MARK = "TALLYMAN_STACK"
"""Variable that names the data folder of the stack to which a process belongs."""

KILL_SECONDS = 10.0


def marked(environment: Mapping[str, str], *, folder: Path) -> dict[str, str]:
    """Return an environment that tells whose its processes are."""
    return {**environment, MARK: str(folder.resolve())}


def find(folder: Path) -> list[psutil.Process]:
    """Find the processes of a stack, whoever their parent is now."""
    mark = str(folder.resolve())
    ourselves = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in ourselves and _mark_of(process) == mark
    ]


def end_all(folder: Path, *, seconds: float) -> None:
    """Have a stack's processes end what they are at; kill what still runs after `seconds`.

    Those at the top are told, and tell those that they started, in their own order.
    """
    found = find(folder)
    tops = _tops(found)
    for process in tops:
        _signal(process, signal.SIGTERM)
    wait_until(lambda: all(map(is_gone, tops)), seconds=seconds)
    kill_all(folder)


def kill_all(folder: Path) -> None:
    """Kill a stack's processes, those that start others first."""
    while found := find(folder):
        end(_tops(found), signal=signal.SIGKILL, seconds=KILL_SECONDS)


def _tops(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    pids = {process.pid for process in processes}
    return [process for process in processes if _parent_of(process) not in pids]


def _mark_of(process: psutil.Process) -> str | None:
    try:
        if process.uids().real != os.geteuid() or is_gone(process):
            return None
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _parent_of(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
