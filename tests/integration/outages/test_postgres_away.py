"""PostgreSQL away: workers take nothing, and go on by themselves when it is back."""

import json

from tests.conftest import wait_until
from tests.integration.outages.conftest import PATIENCE, Site, frozen
from tests.integration.processes.conftest import Running

CLOSED, OPEN = "intake_closed", "intake_open"


def is_closed(worker: Running) -> None:
    """Wait until a worker takes nothing; a busy machine may have had it close before."""
    wait_until(lambda: not takes_jobs(worker) and CLOSED in worker.complaints, seconds=PATIENCE)


def takes_jobs(worker: Running) -> bool:
    told = worker.complaints
    return told.rfind(OPEN) > told.rfind(CLOSED)


class TestAWorkerWhosePostgreSQLStops:
    def test_takes_nothing_and_goes_on_by_itself_with_no_attempt_wasted(self, site: Site) -> None:
        worker, _ = site.start_worker(), site.start_relay()
        site.has_stock()
        before = [site.send("sent-before"), site.submit("submitted-before")]
        site.wait_for_all(before)

        site.servers.postgres.stop("immediate")
        is_closed(worker)
        opened = worker.complaints.count(OPEN)
        meanwhile = [site.send(f"sent-{number}") for number in range(20)]

        def says_so() -> bool:
            # It asks workers, who have two seconds to answer.
            [health] = json.loads(site.installation.run("health", "worker", "--json").stdout)
            return health["is_well"] and "PostgreSQL is away" in health["detail"]

        wait_until(says_so, seconds=PATIENCE)
        wait_until(lambda: site.waiting() == len(meanwhile), seconds=PATIENCE)
        assert worker.complaints.count(OPEN) == opened

        site.servers.postgres.start()
        meanwhile += [site.submit(f"submitted-{number}") for number in range(20)]
        site.wait_for_all(meanwhile)

        assert site.wasted() == []
        wait_until(lambda: takes_jobs(worker), seconds=PATIENCE)
        assert worker.process.poll() is None

    def test_comes_through_many_restarts_under_load(self, site: Site) -> None:
        site.start_worker()
        site.start_relay()
        site.has_stock()
        jobs: list[str] = []
        for restart in range(3):
            jobs += [site.send(f"sent-{restart}-{number}") for number in range(100)]
            jobs += site.submit_many([f"submitted-{restart}-{number}" for number in range(300)])
            wait_until(lambda: site.waiting() < 50, seconds=PATIENCE)
            site.servers.postgres.stop("immediate")
            site.servers.postgres.start()

        site.wait_for_all(jobs)

        assert site.failures() == []


class TestAWorkerWhosePostgreSQLIsFrozen:
    def test_takes_nothing_until_it_moves_again(self, site: Site) -> None:
        worker = site.start_worker()
        worker.wait_for(OPEN)

        with frozen(site.servers.postgres):
            is_closed(worker)
            job = site.send("sent")
            wait_until(lambda: site.waiting() == 1, seconds=PATIENCE)

        assert "no answer within 2 seconds" in worker.complaints
        wait_until(lambda: site.is_known(job), seconds=PATIENCE)


class TestAWorkerWhosePostgreSQLIsReadOnly:
    def test_takes_nothing_until_it_can_write(self, site: Site) -> None:
        worker = site.start_worker()
        worker.wait_for(OPEN)

        site.execute(
            "ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()",
            is_super=True,
        )
        is_closed(worker)
        job = site.send("sent")
        wait_until(lambda: site.waiting() == 1, seconds=PATIENCE)
        site.execute(
            "SET default_transaction_read_only = off;"
            "ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()",
            is_super=True,
        )

        assert "it is read-only" in worker.complaints
        wait_until(lambda: site.is_known(job), seconds=PATIENCE)


class TestAWorkerWhoseJobsFindNoConnectionThoughPostgreSQLAnswers:
    def test_takes_nothing_for_a_while_and_goes_on_by_itself(self, site: Site) -> None:
        worker = site.start_worker()
        worker.wait_for(OPEN)
        # The watch has its connection already.
        site.execute("ALTER ROLE tallyman CONNECTION LIMIT 1", is_super=True)

        site.send("sent")
        is_closed(worker)
        assert "a job found the ledger away" in worker.complaints

        site.execute("ALTER ROLE tallyman CONNECTION LIMIT -1", is_super=True)
        wait_until(lambda: site.is_known("sent"), seconds=PATIENCE)
        assert site.failures() == []


class TestAWorkerThatStartsWhilePostgreSQLIsAway:
    def test_takes_nothing_until_it_is_there(self, site: Site) -> None:
        site.servers.postgres.stop()
        worker = site.start_worker()
        is_closed(worker)
        job = site.send("sent")
        wait_until(lambda: site.waiting() == 1, seconds=PATIENCE)

        site.servers.postgres.start()

        wait_until(lambda: site.is_known(job), seconds=PATIENCE)


class TestAWorkerWhoseBrokerConnectionBreaksMeanwhile:
    def test_still_takes_nothing(self, site: Site) -> None:
        worker = site.start_worker()
        worker.wait_for(OPEN)
        site.servers.postgres.stop()
        is_closed(worker)

        with site.redis as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)
        worker.wait_for("Connection to broker lost")
        job = site.send("sent")
        wait_until(
            lambda: site.installation.run("health", "worker").returncode == 0, seconds=PATIENCE
        )
        wait_until(lambda: site.waiting() == 1, seconds=PATIENCE)

        site.servers.postgres.start()
        wait_until(lambda: site.is_known(job), seconds=PATIENCE)
