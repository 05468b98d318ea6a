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

    def comes_to_say(self, words: str, process: str) -> None:
        """Wait until a process says that it is not ready, and why."""

        def says_so() -> bool:
            status, told = health(self.ports[process], "ready")
            return status not in (0, 200) and words in str(told.get("detail", ""))

        wait_until(says_so, seconds=PATIENCE)

    def all_ready(self) -> bool:
        return all(map(self.is_ready, self.running))

    def comes_to(self, figure: float, process: str, name: str, **labels: str) -> None:
        """Wait until a process tells a figure: what takes too long to look up it leaves out."""
        wait_until(lambda: self.figure(process, name, **labels) == figure, seconds=PATIENCE)

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
        monitored.comes_to(
            1, "metrics", "jobs_finished_total", kind="allocation.create_batch", state="succeeded"
        )
        monitored.comes_to(1, "worker", "worker_intake_open")
        monitored.comes_to(2, "worker", "worker_children")
        monitored.comes_to(1, "metrics", "up", part="db")

        site.servers.postgres.stop("immediate")

        wait_until(lambda: not monitored.is_ready("metrics"), seconds=PATIENCE)
        monitored.comes_to_say("PostgreSQL is away", "worker")
        monitored.comes_to_say("PostgreSQL is away", "relay")
        assert all(map(monitored.is_live, monitored.running))
        monitored.comes_to(0, "metrics", "up", part="db")
        monitored.comes_to(0, "worker", "worker_intake_open")
        wait_until(
            lambda: monitored.figure("relay", "breaker_openings_total", breaker="postgresql"),
            seconds=PATIENCE,
        )

        site.servers.postgres.start()
        wait_until(monitored.all_ready, seconds=PATIENCE)
        # What was told while it was away is not lost.
        monitored.comes_to(
            1, "metrics", "jobs_finished_total", kind="allocation.create_batch", state="succeeded"
        )

        # A scrape does not wait for who holds still, and its caller would not wait long.
        with frozen(monitored.site.servers.postgres):
            monitored.comes_to(0, "metrics", "up", part="db")
            assert not monitored.is_ready("metrics")
            assert monitored.is_live("metrics")
        wait_until(monitored.all_ready, seconds=PATIENCE)

    def test_of_the_broker_they_say_so_too(self, monitored: Monitored) -> None:
        site = monitored.site
        site.servers.valkey.stop()
        monitored.comes_to_say("broker", "worker")
        monitored.comes_to_say("broker", "relay")
        assert monitored.is_live("worker")
        assert monitored.is_live("relay")
        monitored.comes_to(0, "metrics", "up", part="broker")
        site.servers.valkey.start()
        wait_until(monitored.all_ready, seconds=PATIENCE)


class TestAWorker:
    def test_that_consumes_nothing_is_not_ready(self, monitored: Monitored) -> None:
        queues = ("allocation", "users", "imports", "maintenance")
        with monitored.site.app.connection_for_write() as connection:
            control = monitored.site.app.control
            for queue in queues:
                control.cancel_consumer(queue, connection=connection)
            monitored.comes_to_say("takes jobs from no queue", "worker")
            assert monitored.is_live("worker")
            monitored.comes_to(0, "worker", "worker_queues")
            control.add_consumer("users", connection=connection)
        wait_until(lambda: monitored.is_ready("worker"), seconds=PATIENCE)

        # A child that dies is replaced, and the port stays.
        worker = psutil.Process(monitored.running["worker"].process.pid)
        [child, *_] = worker.children()
        child.kill()
        wait_until(
            lambda: child not in worker.children() and len(worker.children()) >= 2,
            seconds=PATIENCE,
        )
        monitored.comes_to(2, "worker", "worker_children")
        wait_until(lambda: monitored.is_ready("worker"), seconds=PATIENCE)
