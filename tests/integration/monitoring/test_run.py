"""A real Prometheus looks at a real run: what is wrong is told, and no panel is empty."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.model import JobState
from tests.conftest import wait_until
from tests.e2e.pipeline import SABOTAGE
from tests.integration.metrics.conftest import do, scalar
from tests.integration.monitoring.prometheus import DEPLOY, Prometheus, prometheus
from tests.integration.processes.conftest import DEADLINE, Installation, Running
from tests.scraping import health
from worker.producer import Producer
from worker.stack import MONITORED

DASHBOARD = DEPLOY / "grafana" / "dashboards" / "tallyman.json"


def expressions() -> list[str]:
    """Return what the dashboard asks for."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in panels
        for target in panel.get("targets", [])
    ]


@pytest.fixture
def producer(engine: Engine) -> Producer:
    return Producer(begin_work=BeginPostgresWork(engine=engine), queries=JobQueries(engine))


@dataclass(frozen=True, kw_only=True)
class Told:
    """A process, and the port at which it tells how it is."""

    process: Running
    port: int

    def is_ready(self) -> bool:
        return health(self.port, "ready")[0] == 200


@pytest.fixture
def installation(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Installation]:
    made = Installation(
        folder=tmp_path,
        variables={
            "TALLYMAN_DATABASE_URL": database_url,
            "TALLYMAN_BROKER_URL": broker_url,
            "TALLYMAN_RETRY_BASE_SECONDS": "0.01",
            "TALLYMAN_RELAY_POLL_SECONDS": "0.2",
            "TALLYMAN_HEALTH_PORT": "0",
        },
    )
    yield made
    made.remove()


def port_of(process: Running) -> int:
    """Return the port that a process has chosen; 0 until it says so."""
    found = re.search(r"monitoring_started\b.*\bport=(\d+)\b.*\n", process.complaints)
    return int(found[1]) if found else 0


@pytest.fixture
def running(installation: Installation) -> dict[str, Told]:
    processes = {name: installation.start(name) for name in MONITORED}
    running = {
        name: Told(process=process, port=wait_until(partial(port_of, process), seconds=DEADLINE))
        for name, process in processes.items()
    }
    wait_until(lambda: all(each.is_ready() for each in running.values()), seconds=DEADLINE)
    return running


@pytest.fixture
def looking(running: dict[str, Told], tmp_path: Path) -> Iterator[Prometheus]:
    with prometheus(tmp_path, targets=[each.port for each in running.values()]) as looking:
        wait_until(
            lambda: len(looking.query('up{job="tallyman"} == 1')) == len(running), seconds=DEADLINE
        )
        yield looking


class TestARun:
    def test_is_told_of_by_alerts_and_fills_the_dashboard(
        self,
        looking: Prometheus,
        running: dict[str, Told],
        producer: Producer,
        engine: Engine,
    ) -> None:
        queries = JobQueries(engine)
        # None of them fires of itself.
        wait_until(lambda: not looking.firing(), seconds=DEADLINE)
        # A counter that is first seen as 1 has not grown.
        died = 'tallyman_jobs_finished_total{kind="allocation.allocate_order",state="dead"}'
        wait_until(lambda: looking.query(f"{died} == 0"), seconds=DEADLINE)

        def ends(job_id: str) -> JobState | None:
            job = queries.find(job_id)
            return job.state if job and job.state.is_terminal else None

        def submit(job_id: str, *, sku: str = "CHAIR", quantity: int = 1) -> None:
            producer.submit(
                "allocation.allocate_order",
                {"order_id": job_id, "lines": [{"sku": sku, "quantity": quantity}]},
                job_id=job_id,
            )

        # A job that dies, one that is refused, some that succeed.
        do(engine, SABOTAGE.replace("%", "%%"))
        do(engine, "INSERT INTO broken_order VALUES ('broken')")
        producer.submit(
            "allocation.create_batch",
            {"reference": "b", "sku": "CHAIR", "quantity": 50},
            job_id="stock",
        )
        wait_until(lambda: ends("stock"), seconds=DEADLINE)
        submit("broken")
        submit("too-much", quantity=51)
        for number in range(10):
            submit(f"order-{number}")
        wait_until(lambda: ends("broken") is JobState.DEAD, seconds=DEADLINE)
        wait_until(lambda: ends("too-much") is JobState.REJECTED, seconds=DEADLINE)
        wait_until(lambda: all(ends(f"order-{n}") for n in range(10)), seconds=DEADLINE)

        counted = 'tallyman_jobs_finished_total{kind="allocation.allocate_order",state="succeeded"}'
        wait_until(
            lambda: [each["value"][1] for each in looking.query(counted)] == ["10"],
            seconds=DEADLINE,
        )
        empty = expressions()

        def fill() -> bool:
            empty[:] = [expression for expression in empty if not looking.query(expression)]
            return not empty

        # Rates need two scrapes.
        with suppress(AssertionError):
            wait_until(fill, seconds=DEADLINE)
        assert empty == []

        # A queue that was paused long ago, and a relay that is gone while a job is due.
        do(engine, "INSERT INTO queue (name, paused_at) VALUES ('users', now() - interval '2 h')")
        relay = running["relay"].process
        relay.process.terminate()
        assert relay.ends() == 0
        submit("nobody-relays-it")
        expected = {"TallymanJobsDied", "TallymanQueuePaused", "TallymanRelayStopped"}
        # The test's own relay alone is down; nothing else is wrong.
        allowed = expected | {"TallymanProcessDown", "TallymanAttemptsFail"}

        def told() -> dict[str, dict[str, Any]]:
            found = looking.firing()
            # A process that took too long for one scrape is told of until the next.
            return found if expected <= found.keys() <= allowed else {}

        try:
            firing = wait_until(told, seconds=DEADLINE)
        except AssertionError:
            pytest.fail(f"expected {sorted(expected)}, and not {sorted(looking.firing())}")
        assert firing["TallymanJobsDied"]["labels"]["kind"] == "allocation.allocate_order"
        assert firing["TallymanQueuePaused"]["labels"]["queue"] == "users"
        assert "2h" in firing["TallymanQueuePaused"]["annotations"]["description"]
        for alert in firing.values():
            assert not [text for text in alert["annotations"].values() if "<no value>" in text]
        assert scalar(engine, "SELECT count(*) FROM job WHERE state = 'dead'") == 1
