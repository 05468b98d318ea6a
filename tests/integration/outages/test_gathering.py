"""Workers that stop, or lose a process, with messages in hand together and others behind them."""

import json
import os
import signal

import pytest

from tests.conftest import wait_until
from tests.e2e.pipeline import HANGS
from tests.integration.outages.conftest import PATIENCE, Site
from tests.integration.outages.test_deploys import tell
from tests.integration.processes.conftest import Running

BEHIND = 40
"""Messages that come while others are in hand."""

HANGING = """
SELECT pid, split_part(application_name, ':', 2)::integer FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'tallyman %:%'
AND wait_event = 'PgSleep'
"""

SURE_THAT_ORDERS_TAKE_NO_TIME = """
import sys
import worker.gathering
from worker.command import main

# What it would learn from a hundred orders, on a machine that has time for them.
worker.gathering.FIRST_TOGETHER = worker.gathering.MOST_TOGETHER
worker.gathering.TOGETHER_SECONDS = 3600.0
sys.argv = ["tallyman", "worker"]
main.main()
"""
FAILS_WHATEVER_IT_IS_GIVEN = """
import sys
import worker.gathering
from worker.command import main

def run_together(*_):
    raise RuntimeError("it cannot")

worker.gathering.run_together = run_together
sys.argv = ["tallyman", "worker"]
main.main()
"""

LOSES_ITS_CONNECTION_WITH_MUCH_TO_DO = """
import sys
from celery import bootsteps
from worker import app
from worker.command import main

class Loss(bootsteps.ConsumerStep):
    requires = ("celery.worker.consumer.tasks:Tasks",)
    has_come = False

    def start(self, consumer):
        if Loss.has_come:
            return
        Loss.has_come = True
        # Of what a loop has to do next, in no order, what comes after a failure is never done.
        for _ in range(100):
            consumer.hub.call_soon(self.fail)

    def fail(self):
        raise ConnectionResetError("lost")

build = app.build_app

def build_app(*arguments, **options):
    built = build(*arguments, **options)
    built.steps["consumer"].add(Loss)
    return built

app.build_app = build_app
sys.argv = ["tallyman", "worker"]
main.main()
"""


@pytest.fixture(autouse=True)
def hanging(site: Site) -> None:
    """Have orders hang that are named in a table."""
    with site.connected() as connection:
        connection.execute(HANGS)


@pytest.fixture(autouse=True)
def alone(site: Site) -> None:
    """Have a worker run one job at a time, and give up none."""
    site.installation.variables = {
        **site.installation.variables,
        "TALLYMAN_CONCURRENCY": "1",
        "TALLYMAN_DRAIN_SECONDS": "100",
    }


def start(site: Site) -> Running:
    """Start a worker that knows that orders take no time, and takes many at once."""
    site.start_relay()
    worker = site.installation.start(code=SURE_THAT_ORDERS_TAKE_NO_TIME)
    worker.wait_for("intake_open")
    site.has_stock()
    return worker


def hang(site: Site, job_id: str) -> None:
    """Have a message hang in its process."""
    site.execute(f"INSERT INTO hanging_order VALUES ('{job_id}')")
    site.send(job_id)
    wait_until(lambda: in_hand(site), seconds=PATIENCE)


def go_on(site: Site, job_id: str) -> None:
    """Let what hangs go on."""
    site.execute(f"DELETE FROM hanging_order WHERE order_id = '{job_id}'")


def in_hand(site: Site) -> list[tuple[int, int]]:
    """Return who has what hangs: PostgreSQL's process, and the worker's."""
    with site.connected() as connection:
        return [(backend, child) for backend, child in connection.execute(HANGING).fetchall()]


def taken(site: Site) -> int:
    """Count the messages that are noted as taken."""
    with site.redis as client:
        return int(client.hlen("unacked"))


def marks(site: Site) -> list[tuple[str, bool]]:
    """Return the ids of what waits, the next first, and whether it is marked as begun before."""
    with site.redis as client:
        waiting = [json.loads(item) for item in client.lrange("allocation", 0, -1)]
    return [
        (each["headers"]["id"], bool(each["properties"]["delivery_info"].get("redelivered")))
        for each in reversed(waiting)
    ]


class TestAWorkerThatStops:
    def test_gives_back_at_once_what_no_process_was_given(self, site: Site) -> None:
        worker = start(site)
        hang(site, "long")
        behind = [site.send(f"behind-{number}") for number in range(BEHIND)]
        wait_until(lambda: taken(site) == 1 + BEHIND, seconds=PATIENCE)

        tell(worker)

        wait_until(lambda: site.waiting() == BEHIND, seconds=PATIENCE)
        assert worker.process.poll() is None
        assert not site.have_succeeded(["long"])
        # They come as they would have, and as none that may have killed a worker.
        assert marks(site) == [(job_id, False) for job_id in behind]
        other = site.start_worker()
        site.wait_for_all(behind)
        go_on(site, "long")
        assert worker.ends() == 0
        site.wait_for_all(["long"])
        assert site.wasted() == []
        assert "Traceback" not in worker.complaints + other.complaints

    def test_acknowledges_what_it_finished_last(self, site: Site) -> None:
        worker = start(site)
        hang(site, "last")
        tell(worker)
        go_on(site, "last")
        assert worker.ends() == 0
        assert (taken(site), site.waiting()) == (0, 0)
        assert site.have_succeeded(["last"])


class TestAWorkerWhoseJobsTakeLong:
    def test_leaves_messages_to_others(self, site: Site) -> None:
        site.start_relay()
        worker = site.start_worker()
        worker.wait_for("intake_open")
        site.has_stock()
        hang(site, "long")
        behind = [site.send(f"behind-{number}") for number in range(BEHIND)]
        # It has one in hand: another worker takes the rest, and does not wait for it.
        site.start_worker()
        site.wait_for_all(behind)
        wait_until(lambda: taken(site) == 1, seconds=PATIENCE)
        assert not site.have_succeeded(["long"])
        go_on(site, "long")
        site.wait_for_all(["long"])
        assert site.wasted() == []


class TestMessagesInHandTogether:
    def test_are_not_lost_where_they_fail_as_a_whole(self, site: Site) -> None:
        site.start_relay()
        worker = site.installation.start(code=FAILS_WHATEVER_IT_IS_GIVEN)
        worker.wait_for("intake_open")
        site.has_stock()
        site.wait_for_all([site.send(f"order-{number}") for number in range(BEHIND)])
        wait_until(lambda: (taken(site), site.waiting()) == (0, 0), seconds=PATIENCE)

    def test_are_done_though_their_process_is_killed(self, site: Site) -> None:
        worker = start(site)
        hang(site, "plug")
        jobs = [f"behind-{number}" for number in range(BEHIND)]
        site.execute("INSERT INTO hanging_order VALUES ('killer')")
        for job_id in [*jobs[:20], "killer", *jobs[20:]]:
            site.send(job_id)
        wait_until(lambda: taken(site) == 2 + BEHIND, seconds=PATIENCE)
        go_on(site, "plug")

        # What is seen is kept: between two of its sleeps it does not show.
        [(backend, child)] = wait_until(
            lambda: in_hand(site) if site.have_succeeded(["plug"]) else [], seconds=PATIENCE
        )
        os.kill(child, signal.SIGKILL)
        site.execute(f"SELECT pg_terminate_backend({backend})", is_super=True)
        go_on(site, "killer")

        site.wait_for_all([*jobs, "killer"])
        # Theirs is the attempt that each made alone when it came again.
        assert site.wasted() == []
        assert site.one("SELECT allocated::int FROM batch WHERE reference = 'b'") == 2 + BEHIND
        assert worker.process.poll() is None
        wait_until(lambda: (taken(site), site.waiting()) == (0, 0), seconds=PATIENCE)


class TestAWorkerThatLosesItsConnection:
    def test_goes_on_whatever_it_had_to_do_next(self, site: Site) -> None:
        site.start_relay()
        worker = site.installation.start(code=LOSES_ITS_CONNECTION_WITH_MUCH_TO_DO)
        worker.wait_for("Connection to broker lost")
        worker.wait_for("intake_open")

        site.has_stock()
        site.wait_for_all([site.send("after")])

        assert site.wasted() == []
