"""Workers that hold still at empty queues, and are killed: what came meanwhile is not theirs."""

import psutil
import pytest

from tests.conftest import wait_until
from tests.integration.outages.conftest import PATIENCE, Site
from tests.integration.processes.conftest import Running


@pytest.fixture
def worker(site: Site) -> Running:
    """Start a worker that has had a job and waits for the next."""
    relay = site.start_relay()
    worker = site.start_worker()
    worker.wait_for("intake_open")
    site.has_stock()
    relay.process.terminate()
    assert relay.ends() == 0
    site.wait_for_all([site.send("first")])
    wait_until(lambda: is_at_rest(site), seconds=PATIENCE)
    return worker


def is_at_rest(site: Site) -> bool:
    """Tell whether nothing is taken, and somebody waits for the next message."""
    with site.redis as client:
        waits = any("t" in each["flags"] or "b" in each["flags"] for each in client.client_list())
        return waits and not client.hlen("unacked")


def kill_frozen(worker: Running, site: Site) -> None:
    """Freeze a worker, send a message, and kill the worker."""
    main = psutil.Process(worker.process.pid)
    processes = [main, *main.children(recursive=True)]
    for process in processes:
        process.suspend()
    site.send("meanwhile")
    for process in processes:
        process.kill()
    worker.process.wait()


class TestAMessageThatComesToAFrozenWorker:
    def test_is_done_by_another_where_that_one_dies(self, site: Site, worker: Running) -> None:
        kill_frozen(worker, site)

        assert site.waiting() == 1
        site.start_worker()
        site.wait_for_all(["first", "meanwhile"])
        assert site.wasted() == []
