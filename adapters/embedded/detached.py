"""A server that lives in one folder and outlives the process that started it."""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import psutil

from adapters.embedded.errors import ServerDidNotStart, ServerDidNotStop, ServerNeverStarted
from adapters.embedded.processes import (
    end,
    find_process,
    find_processes,
    free_port,
    has_ended,
    launch,
    size_of,
    tail_of,
    wait_until,
)
from adapters.embedded.state import ServerState, locked
from adapters.embedded.unprivileged import Account

NO_OPTIONS: Mapping[str, str] = MappingProxyType({})

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_KILL_SECONDS = 10.0
_PORTS_TRIED = 5
_PORT_TAKEN = "Address already in use"


class DetachedServer(ABC):
    """Starts, finds again and stops one server; processes may do so at the same time."""

    name: ClassVar[str]

    def __init__(self, folder: Path, *, account: Account | None = None) -> None:
        self.folder = folder.resolve()
        self.log = self.folder / "server.log"
        self._account = account
        self._state_file = self.folder / "server.json"

    def start(self, options: Mapping[str, str] = NO_OPTIONS) -> None:
        """Start the server, unless it runs already, and return once it answers.

        ``options`` are settings in the server's own words. A server that runs keeps those
        it was started with.

        Raises:
            BinariesNotFound: there is nothing to run.
            ServerDidNotStart: it ended or stayed silent; the text quotes its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self._lock_file):
            if self.running():
                return
            starting = self.pid
            if starting is None or not self._answers_before_it_ends(starting):
                self._clear_remains()
                self._prepare()
                self._launch(options)
            self._welcome()
            self._remember(replace(self._state(), ready=True))

    def running(self) -> bool:
        """Tell whether the server runs now and has been seen to answer."""
        return self.pid is not None and self._state().ready

    @property
    def pid(self) -> int | None:
        process = self._process()
        return None if process is None else process.pid

    @property
    def port(self) -> int:
        """The loopback port, kept from one start to the next while it is free."""
        port = self._state().port
        if port is None:
            raise ServerNeverStarted(f"{self.name} in {self.folder} has no port: start it first")
        return port

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the server needs on disk, once no process of it is left."""

    @abstractmethod
    def _command(self, *, port: int, options: Mapping[str, str]) -> Sequence[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    @abstractmethod
    def _is_ours(self, command: Sequence[str]) -> bool:
        """Recognise the server by its command line."""

    def _is_left_behind(self, command: Sequence[str]) -> bool:
        """Recognise what may outlive the server when it is killed, or a start cut short."""
        return self._is_ours(command)

    def _welcome(self) -> None:  # noqa: B027  a server may need nothing of the kind
        """Set up what can only be asked of a server that answers."""

    def _end(self, stop_signal: signal.Signals) -> None:
        if not self.folder.exists():
            return
        with locked(self._lock_file):
            process = self._process()
            if process is not None and not end(
                [process], signal=stop_signal, seconds=_STOP_SECONDS
            ):
                raise ServerDidNotStop(
                    f"{self.name} (process {process.pid}) still runs {_STOP_SECONDS:.0f} seconds "
                    f"after {stop_signal.name}: see {self.log}, or kill it"
                )
            self._clear_remains()

    def _clear_remains(self) -> None:
        left = find_processes(uid=self._uid, is_ours=self._is_left_behind)
        if not end(left, signal=signal.SIGKILL, seconds=_KILL_SECONDS):
            raise ServerDidNotStop(
                f"processes of an earlier {self.name} in {self.folder} survive SIGKILL: they wait "
                "for the disk, so look at that first"
            )
        self._remember(replace(self._state(), pid=None, ready=False))

    def _launch(self, options: Mapping[str, str]) -> int:
        for _ in range(_PORTS_TRIED):
            port = free_port(preferred=self._state().port)
            log_size = size_of(self.log)
            pid = launch(
                self._command(port=port, options=options), log=self.log, account=self._account
            )
            self._remember(replace(self._state(), port=port, pid=pid))
            if self._answers_before_it_ends(pid):
                return pid
            written = tail_of(self.log, since=log_size)
            # Somebody took the port between the look and the start.
            if _PORT_TAKEN not in written:
                break
        raise ServerDidNotStart(
            f"{self.name} ended while it started; the end of {self.log}:\n{written}"
        )

    def _answers_before_it_ends(self, pid: int) -> bool:
        if not wait_until(lambda: self._answers() or has_ended(pid), seconds=_START_SECONDS):
            raise ServerDidNotStart(
                f"{self.name} (process {pid}) runs but has not answered on port {self.port} within "
                f"{_START_SECONDS:.0f} seconds; start it again to wait longer. The end of "
                f"{self.log}:\n{tail_of(self.log, since=0)}"
            )
        return not has_ended(pid)

    def _process(self) -> psutil.Process | None:
        pid = self._state().pid
        return None if pid is None else find_process(pid, uid=self._uid, is_ours=self._is_ours)

    def _state(self) -> ServerState:
        return ServerState.load(self._state_file)

    def _remember(self, state: ServerState) -> None:
        state.save(self._state_file)

    @property
    def _uid(self) -> int:
        return os.geteuid() if self._account is None else self._account.uid

    @property
    def _lock_file(self) -> Path:
        return self.folder / "lock"
