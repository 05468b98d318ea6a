"""Deploys: what is told to stop finishes or gives back what it has, and no attempt is wasted."""

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count

import pytest

from tests.conftest import wait_until
from tests.integration.outages.conftest import PATIENCE, Site
from tests.integration.processes.conftest import Running

SLOW = """
CREATE TABLE hanging_order (order_id text PRIMARY KEY);
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(CASE WHEN EXISTS (SELECT FROM hanging_order WHERE order_id = NEW.order_id)
                          THEN 3600 ELSE 0.005 END);
    RETURN NEW;
END $$;
CREATE TRIGGER take_time BEFORE INSERT ON sales_order FOR EACH ROW EXECUTE FUNCTION take_time();
"""
HANGING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
AND wait_event = 'PgSleep' AND clock_timestamp() > query_start + interval '0.2 seconds'
"""
TAKES_NO_MESSAGE_FOR_LOST = """
import sys
from adapters.postgres.dispatches import PostgresDispatches
from worker.command import main

claim_due = PostgresDispatches.claim_due

def claim(dispatches, queue, *, limit, is_idle):
    return claim_due(dispatches, queue, limit=limit, is_idle=False)

PostgresDispatches.claim_due = claim
sys.argv = ["tallyman", "relay"]
main.main()
"""
"""A relay that hands nothing out again after ten seconds, as it does where no message waits: a busy
machine may need longer, and of two messages about a job both may count an attempt."""
ROUNDS = 3
ENOUGH = 40
"""Messages that wait while orders are handed over."""


@pytest.fixture(autouse=True)
def slow(site: Site) -> None:
    """Have each order take five milliseconds, and for ever if it is said to hang."""
    with site.connected() as connection:
        connection.execute(SLOW)


def tell(running: Running, number: signal.Signals = signal.SIGTERM) -> None:
    running.process.send_signal(number)


def start_relay(site: Site) -> Running:
    """Start a relay that takes no message for lost."""
    relay = site.installation.start(code=TAKES_NO_MESSAGE_FOR_LOST)
    relay.wait_for("relay_started")
    return relay


@contextmanager
def load(site: Site) -> Iterator[list[str]]:
    """Hand over orders at both doors within the context; give the list that their ids get into."""
    jobs: list[str] = []
    stopping = threading.Event()

    def hand_over() -> None:
        for number in count():
            if stopping.is_set():
                return
            jobs.extend(site.submit_many([f"submitted-{number}-{part}" for part in range(20)]))
            jobs.extend(site.send(f"sent-{number}-{part}") for part in range(20))
            while site.waiting() > ENOUGH and not stopping.is_set():
                stopping.wait(0.01)

    with ThreadPoolExecutor(max_workers=1) as threads:
        running = threads.submit(hand_over)
        try:
            yield jobs
        finally:
            stopping.set()
    running.result()


class TestARollingRestartUnderLoad:
    def test_wastes_no_attempt_and_loses_no_job(self, site: Site) -> None:
        relay = start_relay(site)
        groups = [site.start_worker(), site.start_worker()]
        site.has_stock()
        with load(site) as jobs:
            for _ in range(ROUNDS):
                for place, old in enumerate(groups):
                    wait_until(lambda: site.waiting() > ENOUGH / 2, seconds=PATIENCE)
                    tell(old)
                    groups[place] = site.start_worker()
                    assert old.ends() == 0
                    assert "jobs_given_back" not in old.complaints
                tell(relay)
                assert relay.ends() == 0
                relay = start_relay(site)

        site.wait_for_all(jobs)

        assert site.wasted() == []
        # A hint may come after its job was done, and is answered.
        wait_until(lambda: site.waiting() == 0, seconds=PATIENCE)


@pytest.fixture
def hasty(site: Site) -> None:
    """Have workers give back soon."""
    site.installation.variables = {**site.installation.variables, "TALLYMAN_DRAIN_SECONDS": "0.5"}


def has_come_back(site: Site) -> bool:
    """Tell whether the message lies in the broker, and nobody has it.

    The relay may have added another: after ten seconds it takes a message for lost.
    """
    with site.redis as client:
        return site.waiting() >= 1 and client.hlen("unacked") == 0


class TestAJobThatOutlastsTheDrain:
    @pytest.mark.parametrize("door", ["sent", "submitted"])
    def test_is_given_back_and_done_at_its_first_attempt(
        self, site: Site, hasty: None, door: str
    ) -> None:
        site.start_relay()
        worker = site.start_worker()
        site.has_stock()
        site.execute("INSERT INTO hanging_order VALUES ('long')")
        hand_over = site.send if door == "sent" else site.submit
        hand_over("long")

        self.is_given_back(site, worker)
        # Now it comes as a suspect, whose attempt is counted before it runs.
        self.is_given_back(site, site.start_worker())
        site.execute("DELETE FROM hanging_order")
        site.start_worker()

        site.wait_for_all(["long"])
        assert site.wasted() == []

    def is_given_back(self, site: Site, worker: Running) -> None:
        wait_until(lambda: site.one(HANGING) == 1, seconds=PATIENCE)
        tell(worker)
        assert worker.ends() == 0
        assert "jobs_given_back" in worker.complaints
        # PostgreSQL is told to cancel it, and nobody waits to hear that it has.
        wait_until(lambda: site.one(HANGING) == 0, seconds=PATIENCE)
        wait_until(partial(has_come_back, site), seconds=PATIENCE)
        assert site.one("SELECT coalesce(max(attempts), 0) FROM job WHERE id = 'long'") == 0


class TestAWorkerThatIsToldToQuit:
    def test_gives_back_what_it_has_when_the_time_is_up(self, site: Site, hasty: None) -> None:
        site.start_relay()
        worker = site.start_worker()
        site.has_stock()
        site.execute("INSERT INTO hanging_order VALUES ('long')")
        site.send("long")
        wait_until(lambda: site.one(HANGING) == 1, seconds=PATIENCE)

        tell(worker, signal.SIGQUIT)
        worker.ends()

        wait_until(lambda: site.one(HANGING) == 0, seconds=PATIENCE)
        wait_until(partial(has_come_back, site), seconds=PATIENCE)
        site.execute("DELETE FROM hanging_order")
        site.start_worker()
        site.wait_for_all(["long"])
        assert site.wasted() == []
