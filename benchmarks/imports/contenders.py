"""What is measured: each takes the same lines and says how long it took."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import psutil
import psycopg
import redis
from celery import Celery
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from adapters.embedded.servers import Addresses
from adapters.files.opening import open_table
from adapters.postgres.engine import create
from adapters.postgres.import_queries import ImportQueries, RunView
from adapters.postgres.unit_of_work import BeginPostgresWork
from benchmarks import textbook as book
from benchmarks.celery_contenders import take_from
from benchmarks.imports.files import PRODUCTS, order_lines, write_orders, write_stock, write_users
from benchmarks.stack import celery_worker, database, plain, process, wait_until
from domain.imports.columns import Columns
from domain.imports.runs import OnExists, Plan
from domain.imports.targets import IMPORTS, Target
from worker.importer import take_file
from worker.producer import Producer

MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One import from its first byte to its last row."""

    rows: int
    seconds: float
    most_memory: int
    """Bytes that the largest process of the worker had, as measured meanwhile."""
    ends: dict[str, int]

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


@dataclass(slots=True, kw_only=True)
class Stage:
    """Where imports run: a worker, a relay and a fresh database."""

    url: str
    folder: Path
    worker: psutil.Process

    def import_file(
        self, path: Path, target: Target, *, on_exists: OnExists = OnExists.FAIL
    ) -> Imported:
        """Import a file to its end."""
        engine = create(self.url)
        began = time.perf_counter()
        table = open_table(path)
        columns = Columns.match(table.header, IMPORTS[target].fields, mapped={}, constants={})
        taken = take_file(
            table,
            Plan(target=target, header=table.header, columns=columns, on_exists=on_exists),
            begin_work=BeginPostgresWork(engine=engine),
        )
        queries = ImportQueries(engine)
        most = 0

        def over() -> bool:
            nonlocal most
            most = max(most, *(child.memory_info().rss for child in self.worker.children()))
            return not _found(queries, taken.run_id).state.is_open

        wait_until(over, seconds=1_800, every=0.2)
        seconds = time.perf_counter() - began
        run = _found(queries, taken.run_id)
        engine.dispose()
        assert sum(run.ends.values()) == run.rows
        return Imported(rows=run.rows, seconds=seconds, most_memory=most, ends=dict(run.ends))

    def stock(self) -> None:
        """Put enough of every product on record."""
        path = self.folder / "stock.csv"
        write_stock(path)
        assert self.import_file(path, Target.BATCHES).ends == {"created": PRODUCTS}
        with psycopg.connect(plain(self.url), autocommit=True) as connection:
            connection.execute("ANALYZE")

    def orders(self, lines: int) -> Imported:
        """Import so many order lines."""
        path = self.folder / "orders.csv"
        write_orders(path, lines)
        imported = self.import_file(path, Target.ORDERS)
        assert imported.ends == {"allocated": lines}
        return imported

    def users(self, rows: int) -> Imported:
        """Import so many users."""
        path = self.folder / "users.csv"
        write_users(path, rows)
        return self.import_file(path, Target.USERS, on_exists=OnExists.SKIP)

    @contextmanager
    def single_jobs(self, *, every: float) -> Iterator[list[float]]:
        """Submit an order every so many seconds; give the seconds that each took to be done."""
        stopping = threading.Event()
        ids: list[str] = []
        took: list[float] = []

        def submit() -> None:
            with Producer.at(self.url) as producer:
                while not stopping.wait(every):
                    order = f"single-{time.monotonic_ns()}"
                    producer.submit(
                        "allocation.allocate_order",
                        {"order_id": order, "lines": [{"sku": "SKU-0", "quantity": 1}]},
                        job_id=order,
                    )
                    ids.append(order)

        thread = threading.Thread(target=submit)
        thread.start()
        try:
            yield took
        finally:
            stopping.set()
            thread.join()
        with psycopg.connect(plain(self.url), autocommit=True) as connection:
            still_open = "SELECT count(*) FROM job WHERE id = ANY(%s) AND finished_at IS NULL"
            wait_until(lambda: connection.execute(still_open, [ids]).fetchone() == (0,), every=0.1)
            took += [
                float(row[0])
                for row in connection.execute(
                    "SELECT extract(epoch FROM finished_at - created_at) FROM job"
                    " WHERE id = ANY(%s)",
                    [ids],
                )
            ]


@contextmanager
def stage(servers: Addresses, folder: Path, *, processes: int) -> Iterator[Stage]:
    """Run a worker and a relay on a fresh database."""
    redis.Redis.from_url(servers.broker_url).flushall()
    with database(servers.database_url) as url:
        environment = {
            "TALLYMAN_DATABASE_URL": url,
            "TALLYMAN_BROKER_URL": servers.broker_url,
            "TALLYMAN_CONCURRENCY": str(processes),
            "TALLYMAN_LOG_LEVEL": "WARNING",
        }
        main = "worker.command.main"
        with (
            process(main, "worker", environment=environment, log=folder / "worker.log") as worker,
            process(main, "relay", environment=environment, log=folder / "relay.log"),
        ):
            wait_until(lambda: len(psutil.Process(worker.pid).children()) >= processes, seconds=60)
            yield Stage(url=url, folder=folder, worker=psutil.Process(worker.pid))


def floor(servers: Addresses, lines: int) -> float:
    """Copy the same lines, and an allocation each, into bare tables; return lines a second."""
    rows = [
        (line.order_id, str(line.line_id), line.sku, line.quantity) for line in order_lines(lines)
    ]
    with (
        database(servers.database_url) as url,
        psycopg.connect(plain(url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "CREATE TABLE bare_line (order_id text, line_id text, sku text, quantity integer,"
            " PRIMARY KEY (order_id, line_id))"
        )
        cursor.execute(
            "CREATE TABLE bare_allocation (order_id text, line_id text, batch_reference text,"
            " quantity integer, PRIMARY KEY (order_id, line_id, batch_reference))"
        )
        connection.commit()
        began = time.perf_counter()
        with cursor.copy("COPY bare_line FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        with cursor.copy("COPY bare_allocation FROM STDIN") as copy:
            for order_id, line_id, sku, quantity in rows:
                copy.write_row((order_id, line_id, f"B{sku[3:]}", quantity))
        connection.commit()
        return lines / (time.perf_counter() - began)


def textbook(servers: Addresses, folder: Path, *, lines: int, processes: int) -> float:
    """Allocate lines the textbook's way, one message and one transaction each; return lines/s."""
    broker = redis.Redis.from_url(servers.broker_url)
    broker.flushall()
    with database(servers.database_url) as url:
        engine = create_engine(url)
        book.Base.metadata.create_all(engine)
        with Session(engine) as session:
            for number in range(PRODUCTS):
                batch = book.Batch(reference=f"B-{number}", sku=f"SKU-{number}", purchased=10**8)
                session.add(book.Product(sku=f"SKU-{number}", batches=[batch]))
            session.commit()
        engine.dispose()
        app = Celery(broker=servers.broker_url)
        with celery_worker(
            app,
            "benchmarks.textbook",
            processes=processes,
            environment={
                "TALLYMAN_DATABASE_URL": url,
                "TALLYMAN_BROKER_URL": servers.broker_url,
            },
            log=folder / "textbook.log",
        ):
            with app.producer_or_acquire() as producer:
                for line in order_lines(lines):
                    app.send_task(
                        "textbook.allocate",
                        args=[line.order_id, line.sku, line.quantity],
                        queue="textbook",
                        producer=producer,
                        ignore_result=True,
                    )
            began = take_from(app, broker, "textbook")
            wait_until(lambda: not broker.llen("textbook") and not broker.hlen("unacked"))
            seconds = time.time() - began
        with psycopg.connect(plain(url)) as connection:
            done = connection.execute("SELECT count(*) FROM book_allocation").fetchone()
        assert done == (lines,), done
    return lines / seconds


def p99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100)[98]


def _found(queries: ImportQueries, run_id: str) -> RunView:
    run = queries.find(run_id)
    assert run is not None
    return run
