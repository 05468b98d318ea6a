"""Worker, relay, beat and Flower as processes of their own, on servers that run already."""

import json
import re
import signal
from functools import partial
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
import redis
from sqlalchemy import Engine

from adapters.embedded.processes import wait_until
from adapters.event_stream import STREAM
from adapters.postgres.audit import StockAudit
from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.model import JobState, Submission
from domain.kinds import KINDS
from tests.integration.processes.conftest import DEADLINE, PROGRAMS, Installation, Running
from tests.jobs import build_executor
from worker.producer import Producer

BEAT_EVERY_SECOND = """
import sys
from worker import processes
from worker.schedule import Entry, Every
from worker.settings import load
processes.entries = lambda _: (
    Entry(name="often", kind="maintenance.prune_ledger", payload={"older_than_days": 1},
          timing=Every(seconds=1)),
)
processes.run_beat(load())
"""
SLOT = re.compile(r"^sched:often:\d{4}-\d\d-\d\dT\d\d:(\d\d):(\d\d)Z$")
SLOT_TOLD = re.compile(r"sched:often:\S+Z")


class TestBeat:
    def slots(self, queries: JobQueries) -> list[int]:
        """Return the slots that the ledger has, in seconds of their hour, in order."""
        jobs = queries.newest(kind="maintenance.prune_ledger", limit=1_000)
        found = [SLOT.match(job.id) for job in jobs]
        return sorted(60 * int(slot[1]) + int(slot[2]) for slot in found if slot)

    def handed_over(self, beat: Running) -> set[str]:
        """Return the slots that a beat has handed over, by what it says."""
        lines = [line for line in beat.complaints.splitlines() if "slot_submitted" in line]
        return {found[0] for found in map(SLOT_TOLD.search, lines) if found}

    def test_hands_over_each_slot_once_though_two_run(
        self, connected: Installation, engine: Engine
    ) -> None:
        queries = JobQueries(engine)
        beats = [connected.start(code=BEAT_EVERY_SECOND) for _ in range(2)]
        # The same three by both: of one that stood still, slots may be missing in between.
        assert wait_until(
            lambda: len(set.intersection(*map(self.handed_over, beats))) >= 3, seconds=DEADLINE
        )
        beats[0].process.kill()
        so_far = len(self.slots(queries))
        assert wait_until(lambda: len(self.slots(queries)) >= so_far + 2, seconds=DEADLINE)
        beats[1].process.send_signal(signal.SIGTERM)
        assert beats[1].ends() == 0
        slots = self.slots(queries)
        steps = {(after - before) % 3600 for before, after in pairwise(slots)}
        assert steps <= {1, 3600 - len(slots) + 1}
        handed_over = sum(beat.complaints.count("slot_submitted") for beat in beats)
        assert handed_over > len(slots)


class TestRelay:
    def test_moves_events_to_their_stream(
        self, connected: Installation, engine: Engine, broker_url: str
    ) -> None:
        build_executor(engine, KINDS).run_submitted(
            Submission(
                job_id="arrival",
                kind="allocation.create_batch",
                payload={"reference": "b", "sku": "CHAIR", "quantity": 5},
            ),
            redelivered=False,
        )
        relay = connected.start("relay")
        with redis.Redis.from_url(broker_url) as valkey:
            assert wait_until(lambda: valkey.xlen(STREAM) > 0, seconds=DEADLINE)
        relay.process.send_signal(signal.SIGINT)
        assert relay.ends() == 0

    def test_ends_when_told(self, connected: Installation) -> None:
        relay = connected.start("relay")
        connected.run_until_well("relay")
        relay.process.send_signal(signal.SIGTERM)
        assert relay.ends() == 0
        assert connected.run("health", "relay").returncode == 1


class TestWorker:
    @pytest.fixture
    def worker(self, connected: Installation) -> Running:
        running = connected.start("worker")
        running.wait_for(" ready.")
        return running

    def test_finishes_what_it_has_when_told_to_stop(
        self, worker: Running, connected: Installation, engine: Engine
    ) -> None:
        queries, audit = JobQueries(engine), StockAudit(engine)
        producer = Producer(begin_work=BeginPostgresWork(engine=engine), queries=queries)
        relay = connected.start("relay")
        batch = producer.submit(
            "allocation.create_batch", {"reference": "b", "sku": "CHAIR", "quantity": 5}
        )
        assert wait_until(lambda: self.state(queries, batch.job_id).is_terminal, seconds=DEADLINE)
        with audit.batch_locked("b"):
            order = producer.submit(
                "allocation.allocate_order",
                {"order_id": "o", "lines": [{"sku": "CHAIR", "quantity": 1}]},
            )
            assert wait_until(lambda: self.waits_for_its_stock(engine), seconds=DEADLINE)
            worker.process.send_signal(signal.SIGTERM)
            worker.wait_for("Warm shutdown")
            assert self.state(queries, order.job_id) is JobState.QUEUED
        assert worker.ends() == 0
        assert self.state(queries, order.job_id) is JobState.SUCCEEDED
        relay.process.send_signal(signal.SIGTERM)
        relay.ends()

    def test_is_well_while_it_takes_jobs(self, worker: Running, connected: Installation) -> None:
        asked = connected.run_until_well("worker", "--json")
        [answer] = json.loads(asked.stdout)
        assert answer["part"] == "worker"
        assert f"tallyman-{worker.process.pid}@" in answer["detail"]
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 0
        assert connected.run("health", "worker").returncode == 1

    def waits_for_its_stock(self, engine: Engine) -> bool:
        with engine.connect() as connection:
            return bool(
                connection.exec_driver_sql(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
                    " AND query ~* '\\ybatch\\y'"
                ).scalar_one()
            )

    def state(self, queries: JobQueries, job_id: str) -> JobState:
        job = queries.find(job_id)
        assert job is not None
        return job.state


class TestHealth:
    def test_of_servers_is_good_where_they_answer(self, connected: Installation) -> None:
        connected.run_until_well("db")
        connected.run_until_well("broker")

    def test_of_everything_is_bad_where_a_part_is_missing(self, connected: Installation) -> None:
        well: dict[str, bool] = {}

        def servers_are_well() -> bool:
            asked = connected.run("health", "--json")
            assert asked.returncode == 1
            well.update({part["part"]: part["is_well"] for part in json.loads(asked.stdout)})
            return well["db"] and well["broker"]

        # They have two seconds to answer.
        assert wait_until(servers_are_well, seconds=DEADLINE)
        assert well == {
            "db": True,
            "broker": True,
            "worker": False,
            "relay": False,
            "beat": False,
        }

    def test_of_a_database_that_lets_nobody_in_says_why(self, connected: Installation) -> None:
        address = urlsplit(connected.variables["TALLYMAN_DATABASE_URL"])
        wrong = address._replace(netloc=f"nobody:hunter2@{address.hostname}:{address.port}")
        for url, why in (
            (wrong.geturl(), "password authentication failed"),
            (address._replace(query="sslmode=require").geturl(), "SSL was required"),
        ):
            connected.variables = {**connected.variables, "TALLYMAN_DATABASE_URL": url}
            asked = connected.run("health", "db")
            assert (asked.returncode, asked.stderr) == (1, "")
            [line] = asked.stdout.splitlines()
            assert why in line
            assert "hunter2" not in line

    def test_of_a_database_without_tables_is_bad(self, connected: Installation) -> None:
        empty = connected.variables["TALLYMAN_DATABASE_URL"].rpartition("/")[0] + "/postgres"
        connected.variables = {**connected.variables, "TALLYMAN_DATABASE_URL": empty}
        asked = connected.run("health", "db")
        assert asked.returncode == 1
        assert "tallyman migrate upgrade" in asked.stdout


class TestLogs:
    def test_say_which_process_wrote_them(self, connected: Installation) -> None:
        connected.variables = {
            **connected.variables,
            "TALLYMAN_HEALTH_PORT": "0",
            "TALLYMAN_LOG_FORMAT": "json",
        }
        programs = {name: connected.start(name) for name in PROGRAMS}
        for name, program in programs.items():
            program.wait_for("flower_started" if name == "flower" else "monitoring_started")
            assert wait_until(partial(self.has_logged, program), seconds=DEADLINE)
            assert {json.loads(line)["process"] for line in self.lines(program)} == {name}

    def has_logged(self, program: Running) -> bool:
        return bool(self.lines(program))

    def lines(self, program: Running) -> list[str]:
        """Return what it has logged, but for a last line that is not whole yet."""
        whole = program.complaints.rpartition("\n")[0]
        return [line for line in whole.splitlines() if line.startswith("{")]
