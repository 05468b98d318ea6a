"""Valkey in a folder of its own, on loopback TCP alone."""

import secrets
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import override

from adapters.embedded.binaries import find_valkey
from adapters.embedded.detached import DetachedServer
from adapters.embedded.state import write_secret

USER = "default"

_DEFAULTS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    # The append-only file holds everything; snapshots beside it would only cost.
    "save": "",
    # Each rewrite holds everybody up for a tenth of a second where the disk is busy, and what jobs
    # pass through fills Valkey's own 64 MB in seconds. This much is read back in half a second.
    "auto-aof-rewrite-min-size": "512mb",
    "maxmemory-policy": "noeviction",
}


class ValkeyServer(DetachedServer):
    """A Valkey that keeps its data, and loses at most their last seconds when killed."""

    name: ClassVar[str] = "Valkey"

    def stop(self) -> None:
        """Stop the server and wait until it is gone.

        Raises:
            ServerDidNotStop: it still runs after a minute.
        """
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Take the server down with no chance to write anything, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def url(self, database: int = 0) -> str:
        password = self._state().passwords.get(USER)
        return f"redis://:{password}@127.0.0.1:{self.port}/{database}"

    def remove_data(self) -> None:
        """Stop the server and delete its data."""
        self.kill()
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    @override
    def _prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        if not self._state().passwords:
            self._remember(replace(self._state(), passwords={USER: secrets.token_hex(24)}))

    @override
    def _command(self, *, port: int, options: Mapping[str, str]) -> Sequence[str]:
        settings = {
            **_DEFAULTS,
            **options,
            "bind": "127.0.0.1",
            "port": str(port),
            "protected-mode": "yes",
            "requirepass": self._state().passwords[USER],
            "dir": str(self.folder / "data"),
            "logfile": "",
            "daemonize": "no",
            # Its own title would hide the command line it is recognised by.
            "set-proc-title": "no",
        }
        # In a file, because every user may read a command line.
        write_secret(
            self._settings_file,
            "".join(f"{name} {_quoted(value)}\n" for name, value in settings.items()),
        )
        return [str(find_valkey()), str(self._settings_file)]

    @override
    def _answers(self) -> bool:
        once = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(self.url(), socket_timeout=5, retry=once) as client:
            try:
                client.ping()
            except redis.RedisError:
                return False
        return True

    @override
    def _is_ours(self, command: Sequence[str]) -> bool:
        return command[1:] == [str(self._settings_file)]

    @property
    def _settings_file(self) -> Path:
        return self.folder / "valkey.conf"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
