"""Whose a stack is: one process holds its folder, and others can have it brought down."""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from adapters.embedded.servers import EmbeddedServers
from worker import leftovers

LOOK_SECONDS = 0.1


class AlreadyUp(Exception):
    """Somebody runs the stack of this folder now."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder's stack for this process; a killed one lets go by dying.

    Raises:
        AlreadyUp: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(folder).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyUp(
                f"process {_holder(folder) or '?'} runs the stack of {folder}: stop it there with"
                " Ctrl-C, or with `tallyman down`"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def bring_down(folder: Path, *, seconds: float) -> None:
    """Have whoever holds the stack stop it, and stop what nobody holds; do nothing if none runs.

    Raises:
        AlreadyUp: It still runs after `seconds`.
    """
    if not folder.is_dir():
        return
    deadline = time.monotonic() + seconds
    told: set[int] = set()
    while True:
        try:
            with held(folder):
                leftovers.end_all(folder, seconds=seconds)
                EmbeddedServers(folder).stop()
                return
        except AlreadyUp:
            holder = _holder(folder)
            if holder is not None and holder not in told:
                told.add(holder)
                os.kill(holder, signal.SIGTERM)
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)


def _holder(folder: Path) -> int | None:
    """Return the id of the process that holds the folder; ids are reused, so look who it is."""
    text = lock_file(folder).read_text(encoding="ascii").strip()
    try:
        process = psutil.Process(int(text))
        is_ours = process.uids().real == os.geteuid() and any(
            name in part for part in process.cmdline() for name in ("tallyman", "worker.command")
        )
    except (ValueError, psutil.Error):
        return None
    return process.pid if is_ours else None


def lock_file(folder: Path) -> Path:
    return folder / "up.lock"
