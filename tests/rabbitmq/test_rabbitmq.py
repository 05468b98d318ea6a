"""The promises on RabbitMQ: quorum queues in the place of Redis."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery

from adapters.postgres.engine import create
from adapters.postgres.queries import JobQueries
from domain.jobs.model import JobState
from tests.chaos.programs import Programs
from tests.e2e.how_to import snippets
from tests.e2e.pipeline import KIND, order
from tests.e2e.processes import ProcessContainer, eventually
from tests.rabbitmq.node import SERVER, Node
from tests.stock_audit import read_books
from worker.producer import Producer

ORDERS = 300

SLOW = """
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.005);
    RETURN NEW;
END $$;
CREATE TRIGGER take_time BEFORE INSERT ON sales_order FOR EACH ROW EXECUTE FUNCTION take_time()"""

pytestmark = [
    pytest.mark.skipif(
        SERVER is None and not os.environ.get("CI"),
        reason="needs rabbitmq-server (Debian, Ubuntu: apt-get install rabbitmq-server)",
    ),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Run a node for the tests of this module."""
    made = Node(folder=tmp_path_factory.mktemp("rabbitmq"))
    made.start()
    yield made
    made.kill()


class Pipeline:
    """A worker and a relay on RabbitMQ, with stock of one product."""

    def __init__(self, programs: Programs, node: Node) -> None:
        self.node = node
        self.environment = programs.environment
        self.database_url = programs.database_url
        self.worker: ProcessContainer = programs.start("worker")
        self.relay: ProcessContainer = programs.start("relay")
        self.producer = Producer.at(programs.database_url)
        self._queries = JobQueries(create(programs.database_url))
        self.do("stock", "allocation.create_batch", reference="b1", sku="TEA", quantity=10_000)

    def do(self, job_id: str, kind: str, **payload: object) -> None:
        self.producer.submit(kind, payload, job_id=job_id)
        self.until([job_id])

    def send(self, job_ids: list[str], *, countdown: float | None = None) -> None:
        """Send orders as any Celery client does."""
        with Celery(broker=self.node.url, set_as_current=False) as app:
            app.conf.task_create_missing_queue_type = "quorum"
            # What RabbitMQ has not taken yet, it may lose when it is killed.
            app.conf.broker_transport_options = {"confirm_publish": True}
            for job_id in job_ids:
                app.send_task(
                    KIND,
                    kwargs=self._order(job_id),
                    task_id=job_id,
                    queue="allocation",
                    countdown=countdown,
                    ignore_result=True,
                )

    def submit(self, job_ids: list[str]) -> None:
        self.producer.submit_many(
            self.producer.submission(KIND, self._order(job_id), job_id=job_id) for job_id in job_ids
        )

    def state(self, job_id: str) -> JobState | None:
        job = self._queries.find(job_id)
        return job.state if job else None

    def done(self, job_ids: list[str]) -> int:
        return len(self._queries.finished(job_ids))

    def until(self, job_ids: list[str], *, within: float = 90) -> None:
        """Wait until all of them have finished."""
        eventually(
            lambda: self.done(job_ids) == len(job_ids),
            what=f"{len(job_ids)} jobs are done",
            within=within,
        )

    def until_some(self, job_ids: list[str], *, count: int) -> None:
        """Wait until that many of them have finished."""
        eventually(lambda: self.done(job_ids) >= count, what=f"{count} jobs are done")

    def audit(self, orders: int) -> None:
        """Check that so many orders have what they asked for, once."""
        engine = create(self.database_url)
        with engine.connect() as connection:
            books = read_books(connection)
        engine.dispose()
        books.audit()
        assert len(books.orders) == len(books.allocations) == orders

    def slow_down(self) -> None:
        self._execute(SLOW)

    def make_due(self, job_id: str) -> None:
        """Let the time of a job have come."""
        self._execute(
            "UPDATE job SET run_after = now(), next_dispatch = now() WHERE id = %s", job_id
        )

    def close(self) -> None:
        self.producer.close()
        self._queries._engine.dispose()

    def _execute(self, statement: str, *parameters: object) -> None:
        url = self.database_url.replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode(), parameters or None)

    def _order(self, job_id: str) -> Mapping[str, Any]:
        return order(job_id, "TEA")


@pytest.fixture
def pipeline(node: Node, database_url: str, tmp_path: Path) -> Iterator[Pipeline]:
    settings = {"concurrency": 2, "retry_base_seconds": 0.1}
    with Programs(
        folder=tmp_path, database_url=database_url, broker_url=node.url, settings=settings
    ) as programs:
        made = Pipeline(programs, node)
        yield made
        made.close()
        for queue in ("allocation", "users"):
            node.purge(queue)


def ids(prefix: str, count: int = ORDERS) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


class TestBothDoors:
    def test_end_jobs_in_their_states(self, pipeline: Pipeline) -> None:
        pipeline.send(["sent"])
        pipeline.submit(["submitted"])
        refused = order("refused", "NOTHING")
        pipeline.producer.submit(KIND, refused, job_id="refused")
        pipeline.until(["sent", "submitted", "refused"])
        assert pipeline.state("sent") is JobState.SUCCEEDED
        assert pipeline.state("submitted") is JobState.SUCCEEDED
        assert pipeline.state("refused") is JobState.REJECTED
        pipeline.send(["sent", "submitted"])
        pipeline.send(["last"])
        pipeline.until(["last"])
        pipeline.audit(3)


class TestAMessageThatHasATime:
    def test_is_kept_in_the_ledger_and_not_in_queues_for_that(
        self, pipeline: Pipeline, node: Node
    ) -> None:
        pipeline.send(["later"], countdown=3_600)
        eventually(lambda: pipeline.state("later") is JobState.QUEUED, what="it is put on record")
        assert node.waiting("allocation") == 0
        pipeline.make_due("later")
        pipeline.until(["later"])
        assert node.has("allocation")
        assert not any(node.has(f"celery_delayed_{number}") for number in range(28))
        assert "ETA" not in pipeline.worker.logs()
        pipeline.audit(1)


class TestAKilledWorker:
    def test_loses_nothing_of_either_door(self, pipeline: Pipeline) -> None:
        pipeline.slow_down()
        sent, submitted = ids("sent"), ids("submitted")
        pipeline.send(sent)
        pipeline.submit(submitted)
        everything = [*sent, *submitted]
        for some in (60, 150):
            pipeline.until_some(everything, count=some)
            pipeline.worker.kill()
            pipeline.worker.start()
            pipeline.worker.ready()
        pipeline.until(everything)
        pipeline.audit(len(everything))


class TestABroker:
    def test_that_is_killed_and_comes_back_loses_nothing(
        self, pipeline: Pipeline, node: Node
    ) -> None:
        pipeline.slow_down()
        sent, submitted = ids("sent"), ids("submitted")
        pipeline.send(sent)
        pipeline.submit(submitted)
        everything = [*sent, *submitted]
        pipeline.until_some(everything, count=50)
        node.kill()
        node.start()
        pipeline.until(everything, within=150)
        pipeline.audit(len(everything))

    def test_whose_queue_was_purged_is_told_again(self, pipeline: Pipeline, node: Node) -> None:
        pipeline.worker.kill()
        submitted = ids("submitted", 40)
        pipeline.submit(submitted)
        eventually(lambda: node.waiting("allocation"), what="workers are told")
        assert node.purge("allocation")
        pipeline.worker.start()
        pipeline.until(submitted)
        pipeline.audit(len(submitted))


class TestTheGuide:
    def test_does_what_it_says(self, pipeline: Pipeline, tmp_path: Path) -> None:
        pipeline.do("lamps", "allocation.create_batch", reference="lamps", sku="LAMP", quantity=10)
        for code, prints in snippets("use-rabbitmq.md", "python"):
            script = subprocess.run(
                [sys.executable, "-c", code],
                cwd=tmp_path,
                env=pipeline.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert (script.stdout, script.stderr) == (prints, "")
