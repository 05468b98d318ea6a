"""supervisord: starts the processes of a stack, restarts what dies, stops them in order."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.embedded.state import write_secret

RESTARTS = 1_000
"""Tries to start a process before it is given up; the wait grows by a second with each."""


NO_PORTS: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process that has to run."""

    name: str
    stop_seconds: int
    """Time it has to end once told; then it is killed."""

    @property
    def command(self) -> list[str]:
        # -P: a folder `worker` where the user stands must not be taken for ours.
        return [sys.executable, "-P", "-m", "worker.command.main", self.name]


def configuration(
    programs: Sequence[Program],
    *,
    folder: Path,
    logs: Path,
    ports: Mapping[str, int] = NO_PORTS,
) -> str:
    """Return supervisord's settings: no door to it but signals, and no secrets in them.

    `programs` are started in this order and stopped in the opposite one, each when those
    after it are gone.
    """
    user = "user=root\n" if os.geteuid() == 0 else ""
    head = f"""[supervisord]
nodaemon=true
silent=true
{user}umask=077
pidfile={_escaped(folder / "supervisord.pid")}
logfile={_escaped(logs / "supervisord.log")}
logfile_maxbytes=5MB
logfile_backups=2
childlogdir={_escaped(logs)}
"""
    return "\n".join(
        [head]
        + [
            f"""[program:{program.name}]
command={_escaped(shlex.join(program.command))}
priority={10 * place}
autorestart=true
startsecs=1
startretries={RESTARTS}
stopsignal=TERM
stopwaitsecs={program.stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile={_escaped(logs / f"{program.name}.log")}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
{_environment(ports.get(program.name))}"""
            for place, program in enumerate(programs, start=1)
        ]
    )


class Supervisord:
    """One supervisord, in a session of its own: Ctrl-C reaches it through us alone."""

    def __init__(self, programs: Sequence[Program], *, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.logs = folder / "logs"

    def start(self, environment: Mapping[str, str], *, ports: Mapping[str, int]) -> None:
        """Start it, and with it the programs, which tell how they are at these ports."""
        self.logs.mkdir(mode=0o700, exist_ok=True)
        settings = self._folder / "supervisord.ini"
        write_secret(
            settings,
            configuration(self._programs, folder=self._folder, logs=self.logs, ports=ports),
        )
        with (self.logs / "supervisord.out").open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tell_to_stop(self) -> None:
        if self._process is not None and self.runs():
            self._process.send_signal(signal.SIGTERM)


def _environment(port: int | None) -> str:
    return "" if port is None else f'environment=TALLYMAN_HEALTH_PORT="{port}"\n'


def _escaped(value: object) -> str:
    # `%` begins an expansion of supervisord's.
    return str(value).replace("%", "%%")
