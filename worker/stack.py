"""A stack: servers, schema and processes of one data folder, all on this machine."""

import json
import os
import shutil
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from urllib.parse import urlsplit

from celery import Celery

from adapters.embedded.processes import HeldPorts, free_port, wait_until
from adapters.embedded.servers import EmbeddedServers
from adapters.postgres import schema
from adapters.postgres.engine import create
from worker import flower, health, leftovers
from worker.addresses import Addresses, resolve
from worker.app import build_app
from worker.health import Health
from worker.holding import lock_file
from worker.monitoring import METRICS_PORT
from worker.settings import Settings, SettingsError
from worker.supervisord import Program, Supervisord

LOOK_SECONDS = 0.5
"""How often a stack looks whether its servers and its supervisord run."""
MONITORED = ("metrics", "worker", "relay", "beat")
"""Processes that tell how they are, in the order of their ports."""
MOST_PORT = 65_535
STOP_SECONDS = 15
"""Time that a process without jobs in hand has to end."""


class GivenUp(Exception):
    """The stack was told to stop before it was up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a stack is made of."""

    settings: Settings
    folder: Path
    with_flower: bool = True
    with_metrics: bool = False
    """Tell the ledger's metrics too; each process tells its own in any case."""
    may_move_flower: bool = False
    """Take another port for Flower where its own is taken."""

    @property
    def stop_seconds(self) -> int:
        """Time that a worker has for the jobs in hand, until it gives them back."""
        return ceil(self.settings.drain_seconds) + STOP_SECONDS

    @property
    def programs(self) -> list[Program]:
        """Return the processes in the order of their start."""
        programs = [
            Program(name="worker", stop_seconds=self.stop_seconds),
            Program(name="relay", stop_seconds=STOP_SECONDS),
            Program(name="beat", stop_seconds=STOP_SECONDS),
        ]
        if self.with_metrics:
            programs.append(Program(name="metrics", stop_seconds=STOP_SECONDS))
        if self.with_flower:
            programs.append(Program(name="flower", stop_seconds=STOP_SECONDS))
        return programs

    @property
    def drain_seconds(self) -> int:
        """Time that all of it has to stop in order."""
        return sum(program.stop_seconds for program in self.programs) + STOP_SECONDS


class Stack:
    """Starts, watches and stops what a plan names; used by whoever holds its folder."""

    def __init__(self, plan: Plan, *, stopping: threading.Event) -> None:
        self.plan = plan
        self.stopping = stopping
        self.servers = EmbeddedServers(plan.folder)
        self.supervisord = Supervisord(plan.programs, folder=plan.folder)
        self.flower_port = plan.settings.flower_port
        self.health_ports: dict[str, int] = {}
        self._ports = HeldPorts()

    @property
    def settings(self) -> Settings:
        """Return the settings with which the processes run."""
        return self.plan.settings.model_copy(
            update={"data_folder": self.plan.folder, "flower_port": self.flower_port}
        )

    @property
    def flower_url(self) -> str:
        return flower.url(self.plan.settings, port=self.flower_port)

    @property
    def addresses(self) -> Addresses:
        return resolve(self.settings)

    def start(self) -> None:
        """Start all of it; what a killed run left is stopped first.

        Raises:
            GivenUp: `stopping` was set meanwhile; `stop` is still to be called.
            SettingsError: Flower may not or cannot listen where it is told to.
            EmbeddedServerError: A server does not start.
        """
        flower.check(self.plan.settings)
        for step in (
            self.clear,
            self._choose_port,
            self._choose_health_ports,
            self._start_servers,
            self._migrate,
            self._start_processes,
        ):
            if self.stopping.is_set():
                raise GivenUp
            step()

    def watch(self) -> None:
        """Start again what should run and does not, until `stopping` is set."""
        known = self.addresses
        while not self.stopping.wait(LOOK_SECONDS):
            self._start_servers()
            if self.addresses != known:
                # A server's port was taken meanwhile: the processes have to learn the new one.
                known = self.addresses
                self._stop_processes()
            if not self.supervisord.runs():
                self.clear()
                self._start_processes()

    def stop(self) -> None:
        """Stop the processes in order, once they have done what is in hand; then the servers."""
        self._stop_processes()
        self.servers.stop()
        self._ports.release()

    def kill(self) -> None:
        """Stop everything at once; what was in hand is rolled back."""
        leftovers.kill_all(self.plan.folder)
        self.servers.stop()
        self._ports.release()

    def remove_data(self) -> None:
        """Delete what the servers hold, and all in the folder but its lock, which is ours."""
        self.servers.remove_data()
        for path in self.plan.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != lock_file(self.plan.folder):
                path.unlink(missing_ok=True)

    def unwell(self) -> list[Health]:
        """Return what does not do its work yet."""
        parts = [health.process(self.settings, name) for name in ("relay", "beat")]
        if self.plan.with_flower:
            parts.append(health.flower(self.flower_url))
        # The worker waits longest for an answer: it is asked once all others are well.
        if all(part.is_well for part in parts):
            parts.append(health.workers(self._app, seconds=LOOK_SECONDS, enough=1))
        return [part for part in parts if not part.is_well]

    def wait_until_well(self, *, seconds: float) -> list[Health]:
        """Wait until all does its work, or time is up; return what still does not.

        Raises:
            GivenUp: `stopping` was set meanwhile.
        """
        deadline = time.monotonic() + seconds
        while (unwell := self.unwell()) and time.monotonic() < deadline:
            if self.stopping.wait(LOOK_SECONDS / 5):
                raise GivenUp
        return unwell

    @cached_property
    def _app(self) -> Celery:
        return build_app(self.settings, self.addresses)

    def clear(self) -> None:
        """Stop what a killed run left."""
        leftovers.end_all(self.plan.folder, seconds=self.plan.drain_seconds)

    def _choose_port(self) -> None:
        if not self.plan.with_flower:
            return
        wanted = self.plan.settings.flower_port
        if self.plan.may_move_flower or not wanted:
            self.flower_port = self._ports.hold(preferred=wanted or None)
        elif free_port(preferred=wanted) != wanted:
            raise SettingsError(
                f"TALLYMAN_FLOWER_PORT: port {wanted} is taken: choose another, 0 for a free one,"
                " or leave Flower out with --no-flower"
            )

    def _choose_health_ports(self) -> None:
        first = self.plan.settings.health_port or METRICS_PORT
        for place, name in enumerate(MONITORED):
            if any(program.name == name for program in self.plan.programs):
                port = self._ports.hold(preferred=min(first + place, MOST_PORT))
                while port == self.flower_port:
                    port = self._ports.hold(preferred=None)
                self.health_ports[name] = port
        address = self.plan.settings.health_address
        host = "127.0.0.1" if address in ("0.0.0.0", "::") else address  # noqa: S104  not bound here
        targets = [
            {"targets": [f"{host}:{port}"], "labels": {"role": name}}
            for name, port in self.health_ports.items()
        ]
        self.targets.write_text(json.dumps(targets, indent=2) + "\n", encoding="utf-8")

    @property
    def targets(self) -> Path:
        """Return the file by which Prometheus finds the processes."""
        return self.plan.folder / "prometheus.json"

    def _start_servers(self) -> None:
        if self.plan.settings.database_url is None and not self.servers.postgres.running():
            self.servers.postgres.start()
        if self.plan.settings.broker_url is None and not self.servers.valkey.running():
            self.servers.valkey.start()

    def _migrate(self) -> None:
        engine = create(self.addresses.database_url, application="tallyman migrate")
        try:
            schema.upgrade(engine)
        finally:
            engine.dispose()

    def _start_processes(self) -> None:
        # A killed worker leaves its temporary files: let that be where they are found and removed.
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self.supervisord.start(
            leftovers.marked(self._environment(), folder=self.plan.folder),
            ports=self.health_ports,
        )

    @property
    def _temporary(self) -> Path:
        return self.plan.folder / "tmp"

    def _environment(self) -> dict[str, str]:
        addresses = self.addresses
        environment = {
            **os.environ,
            "TALLYMAN_DATABASE_URL": addresses.database_url,
            "TALLYMAN_BROKER_URL": addresses.broker_url,
            "TALLYMAN_DATA_FOLDER": str(self.plan.folder),
            "TALLYMAN_FLOWER_PORT": str(self.flower_port),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self._temporary),
        }
        if addresses.mirror_url:
            environment["TALLYMAN_MIRROR_URL"] = addresses.mirror_url
        return environment

    def _stop_processes(self) -> None:
        self.supervisord.tell_to_stop()
        wait_until(lambda: not self.supervisord.runs(), seconds=self.plan.drain_seconds)
        leftovers.kill_all(self.plan.folder)


def masked(url: str) -> str:
    """Return an address without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)
