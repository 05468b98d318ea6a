"""A consumer of the stream, who notes what it reads."""

import threading
from pathlib import Path
from typing import Any, Self

import redis

from tests.chaos.arena import Arena
from tests.chaos.evidence import STREAM
from tests.chaos.history import History

COUNT = 2_000
WAIT_MILLISECONDS = 100
AWAY_SECONDS = 0.1


class Consumer:
    """Reads the stream in a thread while the context lasts, whatever happens to Valkey."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._last = "0-0"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def file(self) -> Path:
        return self._arena.history / "consumer.jsonl"

    def _run(self) -> None:
        with History(self.file) as told:
            while not self._stopping.is_set():
                try:
                    with self._arena.valkey_client() as client:
                        self._read(client, told)
                except redis.RedisError:
                    self._stopping.wait(AWAY_SECONDS)

    def _read(self, client: "redis.Redis", told: History) -> None:
        while not self._stopping.is_set():
            found: list[Any] = client.xread({STREAM: self._last}, count=COUNT)  # type: ignore[assignment]
            entries = found[0][1] if found else []
            if entries:
                told.events(entries)
                self._last = entries[-1][0]
            if len(entries) < COUNT:
                self._stopping.wait(WAIT_MILLISECONDS / 1000)
