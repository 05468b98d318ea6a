"""A node of RabbitMQ of our own: its ports, its folder, its process."""

import os
import random
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import amqp

from tests.e2e.processes import eventually

SERVER = next(
    (
        found
        for found in ("/usr/lib/rabbitmq/bin/rabbitmq-server", shutil.which("rabbitmq-server"))
        if found and Path(found).exists()
    ),
    None,
)
"""Debian's wrapper on PATH changes the user; the server itself does not."""
START_SECONDS = 60
PORTS = range(10_000, 20_000)
"""Where no system takes ports from for whoever asks for any, as each connection does: a port has
to be free when the node starts, and again when it comes back."""
ANSWER_SECONDS = 20.0


@dataclass(kw_only=True)
class Node:
    """One node, which listens on loopback alone."""

    folder: Path
    _ports: tuple[int, ...] = field(default_factory=lambda: free_ports(3))
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        # The user that a new node has; it may come from loopback alone.
        return f"amqp://guest:guest@127.0.0.1:{self._ports[0]}//"

    def start(self) -> None:
        """Start it and return once it answers."""
        assert SERVER is not None
        plugins = self.folder / "plugins"
        plugins.write_text("[].")
        with (self.folder / "rabbitmq.log").open("ab") as log:
            self._process = subprocess.Popen(
                [SERVER],
                env=os.environ | self._environment(plugins),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._answers, what="RabbitMQ answers", within=START_SECONDS)

    def kill(self) -> None:
        """End it as a power cut does, and what it started with it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def waiting(self, queue: str) -> int:
        """Count the messages that wait in a queue."""
        with self._connection() as connection:
            return int(connection.channel().queue_declare(queue, passive=True).message_count)

    def has(self, queue: str) -> bool:
        """Tell whether a queue has been declared."""
        with self._connection() as connection:
            try:
                connection.channel().queue_declare(queue, passive=True)
            except amqp.NotFound:
                return False
            return True

    def purge(self, queue: str) -> int:
        """Throw away what waits in a queue; return how much that was."""
        with self._connection() as connection:
            return int(connection.channel().queue_purge(queue))

    def _environment(self, plugins: Path) -> dict[str, str]:
        port, distribution, names = map(str, self._ports)
        return {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"tallyman-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": port,
            "RABBITMQ_DIST_PORT": distribution,
            "ERL_EPMD_PORT": names,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
        }

    def _connection(self) -> amqp.Connection:
        return amqp.Connection(
            f"127.0.0.1:{self._ports[0]}",
            userid="guest",
            password="guest",
            connect_timeout=ANSWER_SECONDS,
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "rabbitmq.log").read_text()
        try:
            with self._connection():
                return True
        except (OSError, amqp.AMQPError):
            return False


def free_ports(count: int) -> tuple[int, ...]:
    """Pick ports on which nobody listens."""
    free: list[int] = []
    with ExitStack() as taken:
        for port in random.sample(PORTS, len(PORTS)):
            with suppress(OSError):
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
                free.append(port)
            if len(free) == count:
                break
    return tuple(free)
