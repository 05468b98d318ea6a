"""The database, as commands use it: no command needs a broker to ask or to hand in jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from adapters.postgres.engine import create
from adapters.postgres.import_queries import ImportQueries
from adapters.postgres.operations import JobOperations
from adapters.postgres.parked import ParkedMessages
from adapters.postgres.queries import JobQueries
from adapters.postgres.queue_gauges import PostgresQueueGauges
from adapters.postgres.queue_settings import PostgresQueueSettings
from adapters.postgres.stock_queries import StockQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from adapters.postgres.user_queries import UserQueries
from worker.addresses import database_url
from worker.producer import Producer
from worker.settings import load
from worker.tracing import switch

NOWHERE = "postgresql+psycopg://"
"""For what checks jobs and hands none in: nothing connects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """What commands ask, and do to, the database."""

    begin_work: BeginPostgresWork
    producer: Producer
    jobs: JobQueries
    operations: JobOperations
    parked: ParkedMessages
    stock: StockQueries
    users: UserQueries
    imports: ImportQueries
    queues: PostgresQueueGauges
    queue_settings: PostgresQueueSettings


@contextmanager
def database(*, url: str | None = None) -> Iterator[Database]:
    """Give access to the database of the settings, or to the one at `url`."""
    settings = load()
    switch.start("command")
    engine = create(url or database_url(settings), application="tallyman command")
    queries = JobQueries(engine)
    begin_work = BeginPostgresWork(engine=engine)
    try:
        yield Database(
            begin_work=begin_work,
            producer=Producer(
                begin_work=begin_work, queries=queries, most_waiting=settings.most_waiting
            ),
            jobs=queries,
            operations=JobOperations(engine),
            parked=ParkedMessages(engine),
            stock=StockQueries(engine),
            users=UserQueries(engine),
            imports=ImportQueries(engine),
            queues=PostgresQueueGauges(engine),
            queue_settings=PostgresQueueSettings(engine),
        )
    finally:
        engine.dispose()
