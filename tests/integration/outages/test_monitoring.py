"""What each process tells of itself while the servers come and go."""

from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from adapters.embedded.processes import free_port
from tests.conftest import wait_until
from tests.integration.outages.conftest import PATIENCE, Site, frozen
from tests.integration.processes.conftest import Running
from tests.scraping import health, scrape, value
from worker.stack import MONITORED


@dataclass(frozen=True, kw_only=True)
class Monitored:
    """Processes that tell how they are."""

    site: Site
    ports: dict[str, int]
    running: dict[str, Running]

    def is_ready(self, process: str) -> bool:
        return health(self.ports[process], "ready")[0] == 200

    def is_live(self, process: str) -> bool:
        return health(self.ports[process], "live")[0] == 200

    def why(self, process: str) -> str:
        return str(health(self.ports[process], "ready")[1].get("detail", ""))

    def all_ready(self) -> bool:
        return all(map(self.is_ready, self.running))

    def figure(self, process: str, name: str, **labels: str) -> float | None:
        return value(scrape(self.ports[process]), f"tallyman_{name}", **labels)


@pytest.fixture
def monitored(site: Site) -> Iterator[Monitored]:
    ports = {name: free_port(preferred=None) for name in MONITORED}
    running = {}
    for name, port in ports.items():
        site.installation.variables = {
            **site.installation.variables,
            "TALLYMAN_HEALTH_PORT": str(port),
        }
        running[name] = site.installation.start(name)
    monitored = Monitored(site=site, ports=ports, running=running)
    wait_until(monitored.all_ready, seconds=PATIENCE)
    yield monitored
    for each in running.values():
        each.process.terminate()
    for each in running.values():
        assert each.ends() == 0


class TestWhileAServerIsAway:
    def test_all_are_live_and_say_why_they_are_not_ready(self, monitored: Monitored) -> None:
        site = monitored.site
        site.has_stock()
        before = monitored.figure(
            "metrics", "jobs_finished_total", kind="allocation.create_batch", state="succeeded"
        )
        assert before in (0, 1)
        assert monitored.figure("worker", "worker_intake_open") == 1
        assert monitored.figure("worker", "worker_children") == 2
        assert monitored.figure("metrics", "up", part="db") == 1

        site.servers.postgres.stop("immediate")

        wait_until(lambda: not monitored.is_ready("worker"), seconds=PATIENCE)
        wait_until(lambda: not monitored.is_ready("relay"), seconds=PATIENCE)
        wait_until(lambda: not monitored.is_ready("metrics"), seconds=PATIENCE)
        assert "PostgreSQL is away" in monitored.why("worker")
        assert "PostgreSQL is away" in monitored.why("relay")
        assert all(map(monitored.is_live, monitored.running))
        assert monitored.figure("metrics", "up", part="db") == 0
        assert monitored.figure("worker", "worker_intake_open") == 0
        wait_until(
            lambda: monitored.figure("relay", "breaker_openings_total", breaker="postgresql"),
            seconds=PATIENCE,
        )

        site.servers.postgres.start()
        wait_until(monitored.all_ready, seconds=PATIENCE)
        # What was told while it was away is not lost.
        assert (
            monitored.figure(
                "metrics", "jobs_finished_total", kind="allocation.create_batch", state="succeeded"
            )
            == 1
        )

        # A scrape does not wait for who holds still, and its caller would not wait long.
        with frozen(monitored.site.servers.postgres):
            wait_until(lambda: monitored.figure("metrics", "up", part="db") == 0, seconds=PATIENCE)
            assert not monitored.is_ready("metrics")
            assert monitored.is_live("metrics")
        wait_until(monitored.all_ready, seconds=PATIENCE)

    def test_of_the_broker_they_say_so_too(self, monitored: Monitored) -> None:
        site = monitored.site
        site.servers.valkey.stop()
        wait_until(lambda: not monitored.is_ready("worker"), seconds=PATIENCE)
        wait_until(lambda: not monitored.is_ready("relay"), seconds=PATIENCE)
        assert "broker" in monitored.why("worker")
        assert "broker" in monitored.why("relay")
        assert monitored.is_live("worker")
        assert monitored.is_live("relay")
        wait_until(lambda: monitored.figure("metrics", "up", part="broker") == 0, seconds=PATIENCE)
        site.servers.valkey.start()
        wait_until(monitored.all_ready, seconds=PATIENCE)


class TestAWorker:
    def test_that_consumes_nothing_is_not_ready(self, monitored: Monitored) -> None:
        queues = ("allocation", "users", "imports", "maintenance")
        with monitored.site.app.connection_for_write() as connection:
            control = monitored.site.app.control
            for queue in queues:
                control.cancel_consumer(queue, connection=connection)
            wait_until(lambda: not monitored.is_ready("worker"), seconds=PATIENCE)
            assert "takes jobs from no queue" in monitored.why("worker")
            assert monitored.is_live("worker")
            assert monitored.figure("worker", "worker_queues") == 0
            control.add_consumer("users", connection=connection)
        wait_until(lambda: monitored.is_ready("worker"), seconds=PATIENCE)

        # A child that dies is replaced, and the port stays.
        worker = psutil.Process(monitored.running["worker"].process.pid)
        [child, *_] = worker.children()
        child.kill()
        wait_until(lambda: child not in worker.children() and len(worker.children()) >= 2)
        wait_until(lambda: monitored.figure("worker", "worker_children") == 2, seconds=PATIENCE)
        assert monitored.is_ready("worker")
