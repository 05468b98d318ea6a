"""A worker, a relay and beat at all of their work, as the login of a worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from adapters.embedded.servers import Addresses
from adapters.postgres.access import Role
from adapters.postgres.operations import JobOperations
from adapters.postgres.queue_settings import PostgresQueueSettings
from domain.jobs.model import JobState
from tests.conftest import wait_until
from tests.integration.processes.conftest import Installation
from tests.roles import Site, connected, engine
from worker.producer import Producer

PATIENCE = 60.0
ORDER = "allocation.allocate_order"

MUCH_TEA = [{"sku": "TEA", "quantity": 99}]
TEA_AND_CUP = [{"sku": "TEA", "quantity": 3}, {"sku": "CUP", "quantity": 1}]
ADA = {"user_id": "ada", "username": "ada", "email": "ada@example.com", "name": "Ada"}

# What comes of each is said; it is handed in when those before it have ended.
DONE, REFUSED = JobState.SUCCEEDED, JobState.REJECTED
JOBS: tuple[tuple[str, dict[str, Any], JobState], ...] = (
    ("allocation.create_batch", {"reference": "t1", "sku": "TEA", "quantity": 9}, DONE),
    ("allocation.create_batch", {"reference": "c1", "sku": "CUP", "quantity": 9}, DONE),
    (ORDER, {"order_id": "o1", "lines": TEA_AND_CUP}, DONE),
    (ORDER, {"order_id": "o2", "lines": MUCH_TEA, "policy": "backorder"}, DONE),
    (ORDER, {"order_id": "o3", "lines": MUCH_TEA}, REFUSED),
    ("allocation.change_line_quantity", {"order_id": "o1", "line_id": "1", "quantity": 2}, DONE),
    ("allocation.change_batch_eta", {"reference": "t1", "eta": "2031-05-01"}, DONE),
    ("allocation.change_batch_quantity", {"reference": "t1", "quantity": 1}, DONE),
    ("allocation.change_batch_quantity", {"reference": "t1", "quantity": 90}, DONE),
    ("allocation.deallocate_line", {"order_id": "o1", "line_id": "2"}, DONE),
    ("allocation.cancel_order", {"order_id": "o1"}, DONE),
    ("users.register", ADA, DONE),
    ("users.register", {**ADA, "user_id": "other"}, REFUSED),
    ("users.update", {"user_id": "ada", "name": "Countess"}, DONE),
    ("users.change_status", {"user_id": "ada", "status": "active"}, DONE),
    ("users.erase", {"user_id": "ada"}, DONE),
    ("imports.scan_source", {"source": "unknown"}, REFUSED),
)

SOURCE = """
what = "users"
files = "inbox/*.csv"
settle_seconds = 0
every_seconds = 1
taken_folder = "inbox/taken"
"""
PEOPLE = "username,email,name\ngrace,grace@example.com,Grace\nx,no-address,Nobody\n"

BREAK = """
CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'this attempt fails' USING ERRCODE = 'internal_error';
END $$;
CREATE TRIGGER break BEFORE INSERT ON sales_order
    FOR EACH ROW WHEN (NEW.order_id = 'broken') EXECUTE FUNCTION break();
"""

AGE = """
ALTER TABLE job DISABLE TRIGGER job_moves;
UPDATE job SET finished_at = now() - interval '99 days' WHERE finished_at IS NOT NULL;
ALTER TABLE job ENABLE TRIGGER job_moves;
UPDATE outbox SET published_at = now() - interval '99 days';
UPDATE import_run SET finished_at = now() - interval '99 days';
UPDATE parked_message SET closed_as = 'dropped', content = NULL,
                          closed_at = now() - interval '99 days';
"""


@pytest.fixture
def installation(site: Site, servers: Addresses, tmp_path: Path) -> Iterator[Installation]:
    """Give a place for programs that log in as a worker."""
    with redis.Redis.from_url(servers.broker_url) as client:
        client.flushall()
    made = Installation(
        folder=tmp_path,
        variables={
            "TALLYMAN_DATABASE_URL": site[Role.WORKER],
            "TALLYMAN_BROKER_URL": servers.broker_url,
            "TALLYMAN_RELAY_POLL_SECONDS": "0.2",
            "TALLYMAN_RETRY_BASE_SECONDS": "0.01",
            "TALLYMAN_RETRY_CAP_SECONDS": "0.02",
        },
    )
    yield made
    made.remove()


class TestAWorkersLogin:
    def test_does_for_all_that_worker_relay_and_beat_do(
        self, site: Site, servers: Addresses, installation: Installation
    ) -> None:
        (installation.folder / "imports").mkdir()
        (installation.folder / "imports/people.toml").write_text(SOURCE)
        (installation.folder / "inbox").mkdir()
        (installation.folder / "inbox/people.csv").write_text(PEOPLE)
        with site.as_owner() as connection:
            connection.execute(BREAK)
        programs = [installation.start(name) for name in ("worker", "relay", "beat")]
        try:
            with Producer.at(site[Role.PRODUCER]) as producer:
                for number, (kind, payload, state) in enumerate(JOBS):
                    ends(
                        producer, producer.submit(kind, payload, job_id=f"j{number}").job_id, state
                    )
                breaks_and_is_retried(site, producer)
                comes_at_a_pace(site, producer)
                by_message(site, servers, producer)
                of_a_source(site)
                all_is_forgotten(site, producer)
        finally:
            told = "".join(program.complaints for program in programs)
        assert "denied" not in told


class TestAnotherLogin:
    def test_takes_no_job(self, site: Site, installation: Installation) -> None:
        installation.variables = {
            **installation.variables,
            "TALLYMAN_DATABASE_URL": site[Role.READER],
        }
        worker = installation.start("worker")
        worker.wait_for("intake_closed")
        worker.wait_for("lacks DELETE on allocation")
        worker.wait_for("it needs the role tallyman_worker")

    @pytest.mark.parametrize("program", ["relay", "beat"])
    def test_ends_a_program_in_one_line(
        self, site: Site, installation: Installation, program: str
    ) -> None:
        for login in (site[Role.READER], site[Role.PRODUCER], site.stranger):
            installation.variables = {**installation.variables, "TALLYMAN_DATABASE_URL": login}
            refused = installation.run(program)
            assert refused.returncode in (1, 4)
            assert "error: " in refused.stderr.splitlines()[-1]
            assert "Traceback" not in refused.stderr


def ends(producer: Producer, job_id: str, state: JobState) -> None:
    def has_ended() -> bool:
        job = producer.find(job_id)
        return job is not None and job.state.is_terminal

    wait_until(has_ended, seconds=PATIENCE)
    job = producer.find(job_id)
    assert job is not None
    assert job.state is state, job


def breaks_and_is_retried(site: Site, producer: Producer) -> None:
    order = {"order_id": "broken", "lines": [{"sku": "TEA", "quantity": 1}]}
    ends(producer, producer.submit(ORDER, order, job_id="broken").job_id, JobState.DEAD)
    with site.as_owner() as connection:
        connection.execute("DROP TRIGGER break ON sales_order")
    with engine(site[Role.OPERATOR]) as opened:
        assert JobOperations(opened).retry(["broken"]).done == ("broken",)
    ends(producer, "broken", DONE)


def comes_at_a_pace(site: Site, producer: Producer) -> None:
    with engine(site[Role.OPERATOR]) as opened:
        settings = PostgresQueueSettings(opened)
        settings.pause(["users"], reason=None)
        settings.set_rate("users", 50)
        for number in range(3):
            person = {
                "username": f"ben{number}",
                "email": f"ben{number}@example.com",
                "name": "Ben",
            }
            producer.submit("users.register", person, job_id=f"ben-{number}")
        settings.resume(["users"])
    for number in range(3):
        ends(producer, f"ben-{number}", DONE)


def by_message(site: Site, servers: Addresses, producer: Producer) -> None:
    backend = f"ledger+{site[Role.PRODUCER]}"
    with Celery(broker=servers.broker_url, backend=backend, set_as_current=False) as client:
        order = {"order_id": "by-message", "lines": [{"sku": "TEA", "quantity": 1}]}
        sent = client.send_task(ORDER, kwargs=order, task_id="m1", queue="allocation")
        later = {**order, "order_id": "later"}
        client.send_task(ORDER, kwargs=later, task_id="m2", queue="allocation", countdown=0.5)
        assert sent.get(timeout=PATIENCE)["state"] == "allocated"
        client.backend.ledger.close()
    ends(producer, "m2", DONE)
    with redis.Redis.from_url(servers.broker_url) as client:
        for _ in range(2):
            client.lpush("users", b"no message")
    wait_until(lambda: counted(site, "SELECT sum(copies) FROM parked_message") == 2)
    with redis.Redis.from_url(servers.broker_url) as client:
        wait_until(lambda: client.xlen("tallyman:events") > 0)
    wait_until(lambda: counted(site, "SELECT count(*) FROM queue_gauge") > 0)


def of_a_source(site: Site) -> None:
    done = "SELECT rows_done FROM import_run WHERE state = 'finished'"
    wait_until(lambda: counted(site, done) == 2, seconds=PATIENCE)


def all_is_forgotten(site: Site, producer: Producer) -> None:
    wait_until(lambda: counted(site, "SELECT count(*) FROM outbox WHERE published_at IS NULL") == 0)
    with site.as_owner() as connection:
        connection.execute(AGE)
    job_id = producer.submit("maintenance.prune_ledger", {"older_than_days": 30}).job_id
    ends(producer, job_id, DONE)
    pruned = producer.find(job_id)
    assert pruned is not None
    assert isinstance(pruned.result, dict)
    assert all(pruned.result.values()), pruned.result


def counted(site: Site, query: str) -> int:
    with connected(site[Role.OPERATOR]) as connection:
        row = connection.execute(query).fetchone()
        return int(row[0] or 0) if row else 0
