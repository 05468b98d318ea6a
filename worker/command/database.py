"""The database, as commands use it: no command needs a broker to ask or to hand in jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from adapters.postgres.engine import create
from adapters.postgres.import_queries import ImportQueries
from adapters.postgres.operations import JobOperations
from adapters.postgres.queries import JobQueries
from adapters.postgres.stock_queries import StockQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from adapters.postgres.user_queries import UserQueries
from worker.addresses import database_url
from worker.producer import Producer
from worker.settings import load

NOWHERE = "postgresql+psycopg://"
"""For what checks jobs and hands none in: nothing connects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """What commands ask, and do to, the database."""

    begin_work: BeginPostgresWork
    producer: Producer
    jobs: JobQueries
    operations: JobOperations
    stock: StockQueries
    users: UserQueries
    imports: ImportQueries


@contextmanager
def database(*, url: str | None = None) -> Iterator[Database]:
    """Give access to the database of the settings, or to the one at `url`."""
    engine = create(url or database_url(load()), application="tallyman command")
    queries = JobQueries(engine)
    begin_work = BeginPostgresWork(engine=engine)
    try:
        yield Database(
            begin_work=begin_work,
            producer=Producer(begin_work=begin_work, queries=queries),
            jobs=queries,
            operations=JobOperations(engine),
            stock=StockQueries(engine),
            users=UserQueries(engine),
            imports=ImportQueries(engine),
        )
    finally:
        engine.dispose()
