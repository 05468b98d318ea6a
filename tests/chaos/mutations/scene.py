"""Where a load is played: a database, a broker, and the history of what clients do there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.chaos.evidence import plain
from tests.chaos.stand import Stand, opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A fresh database and broker, and the history of what clients do there."""

    url: str
    broker_url: str
    folder: Path

    @contextmanager
    def stand(
        self,
        name: str,
        *,
        reached: Callable[[str], None] = lambda _: None,
        is_successor: bool = False,
    ) -> Iterator[Stand]:
        with opened(
            self.url,
            broker_url=self.broker_url,
            history=self.folder / f"{name}.jsonl",
            name="all",
            reached=reached,
            folder=self.folder / "files",
            is_successor=is_successor,
        ) as stand:
            yield stand

    def execute(self, statement: str) -> None:
        with psycopg.connect(plain(self.url), autocommit=True) as connection:
            connection.execute(statement.encode())
