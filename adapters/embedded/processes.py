"""Processes that outlive the one that started them."""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import psutil

from adapters.embedded.unprivileged import Account

_POLL_SECONDS = 0.01
# Below those that systems give to connections going out: one of these would take a server's port
# in the moment in which it is not there.
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
_TAIL_LINES = 20
# Nothing else passes into a server: another account's processes may read its environment.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
# The shell leaves at once, so nobody here has to wait for the server or reap it.
_DETACH = 'exec "$@" >&2 & echo $!'


def run(command: Sequence[str], *, log: Path, account: Account | None) -> str:
    """Run a program to its end, as ``account`` where one is given; its errors go to the log.

    Raises:
        subprocess.CalledProcessError: it ended with an error.
    """
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    for_us_alone = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode=0o600)
    with os.fdopen(for_us_alone, "ab") as sink:
        return subprocess.run(
            command,
            check=True,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=environment | {"LC_ALL": "C"},
            cwd="/",
            umask=0o077,
            start_new_session=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        ).stdout


def launch(command: Sequence[str], *, log: Path, account: Account | None) -> int:
    """Start a server in a session of its own, where no terminal reaches it; return its pid."""
    return int(run(["/bin/sh", "-c", _DETACH, "sh", *command], log=log, account=account))


def find_process(
    pid: int, *, uid: int, is_ours: Callable[[list[str]], bool]
) -> psutil.Process | None:
    """Find the process of a remembered id, if it still is the one we mean: ids are reused."""
    try:
        process = psutil.Process(pid)
        if process.uids().real == uid and is_ours(process.cmdline()) and not is_gone(process):
            return process
    except psutil.Error:
        return None
    return None


def find_processes(*, uid: int, is_ours: Callable[[list[str]], bool]) -> Iterator[psutil.Process]:
    for pid in psutil.pids():
        process = find_process(pid, uid=uid, is_ours=is_ours)
        if process is not None:
            yield process


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended; one that nobody reaps (as under some containers) has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def has_ended(pid: int) -> bool:
    try:
        return is_gone(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def end(processes: Iterable[psutil.Process], *, signal: int, seconds: float) -> bool:
    """Signal processes and wait until all are gone, or tell that some are not in time."""
    signalled = list(processes)
    for process in signalled:
        try:
            process.send_signal(signal)
        except psutil.NoSuchProcess:
            continue
    return wait_until(lambda: all(map(is_gone, signalled)), seconds=seconds)


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def free_port(*, preferred: int | None) -> int:
    """Choose a loopback port nobody listens on: the preferred one if possible."""
    port = preferred or secrets.choice(range(_FIRST_PORT, _LAST_PORT))
    with socket.socket() as probe:
        # As servers do: connections that have just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return free_port(preferred=None)
        return port


class HeldPorts:
    """Loopback ports for processes that are yet to listen: nobody who holds ports gets them too.

    Two who only look for free ones at the same moment find the same. A port of TCP is held by the
    port of UDP of that number, which is free again when this process ends, however it does.
    """

    def __init__(self) -> None:
        self._holds: list[socket.socket] = []

    def hold(self, *, preferred: int | None) -> int:
        """Hold a port nobody listens on: the preferred one if possible."""
        port = free_port(preferred=preferred)
        hold = socket.socket(type=socket.SOCK_DGRAM)
        try:
            hold.bind(("127.0.0.1", port))
        except OSError:
            hold.close()
            return self.hold(preferred=None)
        self._holds.append(hold)
        return port

    def release(self) -> None:
        """Let others have them."""
        while self._holds:
            self._holds.pop().close()


def size_of(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def tail_of(log: Path, *, since: int) -> str:
    """Quote the last lines of a log that were written after its first ``since`` bytes."""
    with log.open("rb") as source:
        source.seek(since)
        lines = source.read().decode("utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])
