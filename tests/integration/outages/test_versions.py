"""Code and schema of two versions side by side, as during a deploy."""

import json

import pytest

from adapters.postgres.engine import create
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.model import Submission
from tests.conftest import wait_until
from tests.e2e.pipeline import KIND, order
from tests.integration.outages.conftest import PATIENCE, SKU, Site
from tests.integration.processes.conftest import Running

# What the next version's migration may do while this version runs.
EXPANDED = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables
                WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE format('ALTER TABLE %I ADD COLUMN next_colour text', name);
        EXECUTE format('ALTER TABLE %I ADD COLUMN next_weight int NOT NULL DEFAULT 0', name);
        EXECUTE format('CREATE INDEX ON %I (next_colour)', name);
    END LOOP;
    CREATE TABLE next_thing (job_id text REFERENCES job, told_at timestamptz);
    UPDATE alembic_version SET version_num = '9999';
END $$
"""

NEXT_KIND = "test.greet"
NEXT_WORKER = """
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from domain.jobs.kinds import JobKind
from domain.jobs.outcomes import Succeeded
from domain.kinds import KINDS
from domain.messages import Command
from worker.processes import run_worker
from worker.settings import load


@dataclass(frozen=True, slots=True, kw_only=True)
class Greet(Command):
    kind: ClassVar[str] = "test.greet"
    name: str
    greeting: str = "hello"


def greet(requests, work):
    return [
        Succeeded(result={"said": f"{request.command.greeting} {request.command.name}"})
        for request in requests
    ]


KINDS[Greet.kind] = JobKind(command=Greet, handler=greet, queue="allocation")
run_worker(load(), queues=["allocation"], concurrency=2)
"""


def start_next_worker(site: Site) -> Running:
    worker = site.installation.start(code=NEXT_WORKER)
    worker.wait_for("intake_open")
    return worker


def accept(site: Site, job_id: str, kind: str, **payload: object) -> None:
    """Accept a job as a producer of another version would."""
    engine = create(site.servers.postgres.url())
    with BeginPostgresWork(engine=engine)() as work:
        submission = Submission(job_id=job_id, kind=kind, payload=payload)
        work.jobs.accept([(submission, "allocation", 5)])
        work.commit()
    engine.dispose()


def end_leases(site: Site) -> None:
    """Let what was published and not done be due again: a minute has passed."""
    site.execute("UPDATE job SET next_dispatch = now() WHERE state IN ('queued', 'retry')")


class TestADatabaseThatTheNextVersionHasExpanded:
    @pytest.fixture(autouse=True)
    def expanded(self, site: Site) -> None:
        with site.connected() as connection:
            connection.execute(EXPANDED)

    def test_serves_this_version_at_both_doors(self, site: Site) -> None:
        site.start_relay()
        site.start_worker()
        site.has_stock()
        site.wait_for_all([site.send("sent"), site.submit("submitted")])
        site.producer.submit("allocation.cancel_order", {"order_id": "sent"}, job_id="cancelled")
        site.producer.submit("maintenance.prune_ledger", {"older_than_days": 1}, job_id="pruned")

        site.wait_for_all(["cancelled", "pruned"])

        assert site.failures() == []

    def test_counts_as_well_and_is_left_as_it_is(self, site: Site) -> None:
        health = site.installation.run("health", "db")
        assert (health.returncode, "newer than this code" in health.stdout) == (0, True)
        current = site.installation.run("migrate", "current")
        assert current.returncode == 0, current.stdout
        upgrade = site.installation.run("migrate", "upgrade")
        assert upgrade.returncode == 0, upgrade.stderr
        assert "newer than this code" in upgrade.stdout
        assert site.one("SELECT version_num FROM alembic_version") == "9999"


class TestADatabaseThatIsTooOld:
    ADVICE = "tallyman migrate upgrade"

    @pytest.fixture(autouse=True)
    def newest(self, site: Site) -> str:
        newest = site.one("SELECT version_num FROM alembic_version")
        site.execute("UPDATE alembic_version SET version_num = '0001'")
        return str(newest)

    def test_is_refused_by_who_would_fail_on_it(self, site: Site) -> None:
        for command in (("relay",), ("beat",)):
            refused = site.installation.run(*command)
            assert refused.returncode != 0
            assert self.ADVICE in refused.stderr
            assert "Traceback" not in refused.stderr
        assert site.installation.run("migrate", "current").returncode == 1
        [health] = json.loads(site.installation.run("health", "db", "--json").stdout)
        assert not health["is_well"]
        assert "is at revision 0001" in health["detail"]
        assert self.ADVICE in health["detail"]

    def test_gets_no_job_from_a_worker_until_it_is_migrated(self, site: Site, newest: str) -> None:
        worker = site.start_worker()
        worker.wait_for("intake_closed")
        assert self.ADVICE in worker.complaints
        job = site.send("sent")
        wait_until(lambda: site.waiting() == 1, seconds=PATIENCE)

        site.execute(f"UPDATE alembic_version SET version_num = '{newest}'")

        wait_until(lambda: site.is_known(job), seconds=PATIENCE)


class TestAJobOfAKindThatOnlyTheNextVersionKnows:
    def test_waits_at_door_b_for_a_worker_of_that_version(self, site: Site) -> None:
        site.start_relay()
        old = site.start_worker()
        accept(site, "greeting", NEXT_KIND, name="Ann")

        def times_left() -> int:
            return old.complaints.count("unknown_kind_left")

        wait_until(lambda: times_left() >= 1, seconds=PATIENCE)
        end_leases(site)
        wait_until(lambda: times_left() >= 2, seconds=PATIENCE)
        assert site.one("SELECT state FROM job") == "queued"

        start_next_worker(site)

        def is_done() -> bool:
            # One message about it after the other: two at once may be two attempts.
            left = times_left()
            end_leases(site)
            wait_until(
                lambda: site.have_succeeded(["greeting"]) or times_left() > left, seconds=PATIENCE
            )
            return site.have_succeeded(["greeting"])

        wait_until(is_done, seconds=PATIENCE)
        assert site.one("SELECT result ->> 'said' FROM job") == "hello Ann"
        assert site.wasted() == []
        assert old.process.poll() is None
        assert site.one("SELECT count(*) FROM parked_message") == 0


class TestAFieldThatOnlyTheNextVersionKnows:
    def test_has_its_default_in_jobs_that_were_accepted_before(self, site: Site) -> None:
        site.start_relay()
        accept(site, "before", NEXT_KIND, name="Ann")
        accept(site, "after", NEXT_KIND, name="Ann", greeting="good day,")
        start_next_worker(site)

        site.wait_for_all(["before", "after"])

        said = "SELECT result ->> 'said' FROM job WHERE id = %s"
        assert site.one(said, "before") == "hello Ann"
        assert site.one(said, "after") == "good day, Ann"

    def test_is_refused_by_this_version(self, site: Site) -> None:
        site.start_relay()
        site.start_worker()
        accept(site, "early", KIND, **order("early", SKU, next_field=1))

        wait_until(
            lambda: site.one("SELECT state FROM job WHERE id = 'early'") == "rejected",
            seconds=PATIENCE,
        )

        error = site.one("SELECT error::text FROM job WHERE id = 'early'")
        assert "InvalidPayload" in error
        assert "next_field" in error
