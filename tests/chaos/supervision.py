"""Tallyman's processes, started again when they die, as whoever runs them must see to."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

LOOK_SECONDS = 0.1
BACKOFF_SECONDS = 0.5
"""How long a process that died stays down."""
STOP_SECONDS = 20.0


@dataclass(kw_only=True)
class Kept:
    """A process in a group of its own that has to run."""

    name: str
    command: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None
    died: float | None = None

    @property
    def pid(self) -> int | None:
        """Return its id, which is that of its group too, while it runs."""
        return self.process.pid if self.process and self.process.poll() is None else None

    def children(self) -> list[int]:
        """Return the ids of its children: a worker's do the jobs."""
        # Asked once: it may end in between, and psutil takes no id for that of this very process.
        pid = self.pid
        try:
            return [] if pid is None else [child.pid for child in psutil.Process(pid).children()]
        except psutil.NoSuchProcess:
            return []


@dataclass(kw_only=True)
class Supervision:
    """Keeps processes running while the context lasts."""

    folder: Path
    environment: Mapping[str, str]
    programs: Mapping[str, Sequence[str]]
    """Modules with arguments, by name."""
    starts: Counter[str] = field(default_factory=Counter)
    _groups: set[int] = field(default_factory=set)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.kept = {
            name: Kept(name=name, command=[sys.executable, "-m", *module])
            for name, module in self.programs.items()
        }
        self._thread = threading.Thread(target=self._watch, name="supervision", daemon=True)

    def __enter__(self) -> Self:
        for kept in self.kept.values():
            self._start(kept)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them as an operator does, and kill what does not stop."""
        self._stopping.set()
        self._thread.join()
        running = [kept for kept in self.kept.values() if kept.pid]
        for kept in running:
            _signal(kept, signal.SIGCONT)
            if kept.process:
                kept.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for kept in running:
            with suppress(subprocess.TimeoutExpired):
                if kept.process:
                    kept.process.wait(max(0.1, deadline - time.monotonic()))
            _signal(kept, signal.SIGKILL)
            if kept.process:
                kept.process.wait()
        orphans = list(self._orphans())
        for orphan in orphans:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()
        psutil.wait_procs(orphans, timeout=STOP_SECONDS)

    def kill(self, name: str) -> None:
        """Kill a process with its whole group; it is started again."""
        with self._lock:
            _signal(self.kept[name], signal.SIGKILL)

    def kill_alone(self, name: str) -> None:
        """Kill a process and leave its children orphans, in the middle of what they do."""
        pid = self.kept[name].pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_child(self, name: str, chance: random.Random) -> bool:
        """Kill one child of a process, if it has any."""
        children = self.kept[name].children()
        if not children:
            return False
        with suppress(ProcessLookupError):
            os.kill(chance.choice(children), signal.SIGKILL)
        return True

    @contextmanager
    def frozen(self, name: str) -> Iterator[bool]:
        """Stop a process, with its whole group, in the middle of what it does; then let it go on.

        Tells whether it was there to be stopped.
        """
        with self._lock:
            pid = self.kept[name].pid
            if pid is not None:
                _signal(self.kept[name], signal.SIGSTOP)
        try:
            yield pid is not None
        finally:
            # The group that was stopped, whoever has its name by now: where only its main process
            # was killed meanwhile, the others would stand still, with all they hold, for good.
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGCONT)

    def _orphans(self) -> Iterator[psutil.Process]:
        """Find what is left of processes that were killed alone.

        Not by their groups alone, whose ids may be those of others by now.
        """
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                is_of_group = os.getpgid(process.pid) in self._groups
                if is_of_group and Path(process.cwd()) == self.folder.resolve():
                    yield process

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            for kept in self.kept.values():
                if kept.pid is not None:
                    continue
                now = time.monotonic()
                if kept.died is None:
                    kept.died = now
                elif now - kept.died >= BACKOFF_SECONDS:
                    self._start(kept)

    def _start(self, kept: Kept) -> None:
        with self._lock, (self.folder / f"{kept.name}.log").open("ab") as log:
            kept.died = None
            kept.process = subprocess.Popen(
                kept.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._groups.add(kept.process.pid)
        self.starts[kept.name] += 1


def _signal(kept: Kept, number: signal.Signals) -> None:
    if kept.process is not None:
        with suppress(ProcessLookupError):
            os.killpg(kept.process.pid, number)
