"""Where a load is played: a database, a broker, and the history of what clients do there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from adapters.postgres.engine import create
from tests.chaos.evidence import plain
from tests.chaos.history import History
from tests.chaos.stand import Stand


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
        engine = create(self.url, by_index=True)
        try:
            with History(self.folder / f"{name}.jsonl") as told:
                yield Stand(
                    engine=engine,
                    broker_url=self.broker_url,
                    history=told,
                    name="all",
                    reached=reached,
                    folder=self.folder / "files",
                    is_successor=is_successor,
                )
        finally:
            engine.dispose()

    def execute(self, statement: str) -> None:
        with psycopg.connect(plain(self.url), autocommit=True) as connection:
            connection.execute(statement.encode())
