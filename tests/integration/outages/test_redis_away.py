"""Redis away, frozen or full: door (b) accepts, nothing is lost, and all goes on by itself."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
import redis

from adapters.embedded.servers import EmbeddedServers
from adapters.embedded.valkey import ValkeyServer
from adapters.event_stream import STREAM, RedisEventStream, StreamAway
from domain.jobs.publishing import RecordedEvent
from tests.conftest import wait_until
from tests.e2e.pipeline import HANGS
from tests.integration.outages.conftest import PATIENCE, Site, frozen
from tests.integration.outages.test_gathering import go_on, hang
from tests.integration.processes.conftest import Running

MIRRORED = 30
ROOM = 400_000
"""Bytes that Redis has left: for a part of the events."""


def events(site: Site) -> list[str]:
    """Return the ids of the events in the stream, each where it first came."""
    with site.redis as client:
        entries = client.xrange(STREAM)
    return list(dict.fromkeys(fields[b"event_id"].decode() for _, fields in entries))


def recorded(site: Site) -> list[str]:
    """Return the ids of all events in their order."""
    with site.connected() as connection:
        rows = connection.execute("SELECT event_id::text FROM outbox ORDER BY id").fetchall()
    return [event_id for (event_id,) in rows]


def unpublished(site: Site) -> int:
    return int(site.one("SELECT count(*) FROM outbox WHERE published_at IS NULL"))


def event(number: int) -> RecordedEvent:
    return RecordedEvent(
        outbox_id=number,
        event_id=str(number),
        name="Happened",
        aggregate="a",
        payload='{"text": "%s"}' % ("x" * 1_000),
        job_id="j",
        correlation_id=None,
        occurred_at=datetime.now(tz=UTC),
    )


@pytest.fixture
def relay(site: Site) -> Running:
    return site.start_relay()


@pytest.fixture
def worker(site: Site) -> Running:
    worker = site.start_worker()
    worker.wait_for("intake_open")
    return worker


class TestWhileRedisIsDown:
    def test_jobs_are_accepted_and_run_when_it_is_back(
        self, site: Site, worker: Running, relay: Running
    ) -> None:
        site.has_stock()
        wait_until(lambda: unpublished(site) == 0, seconds=PATIENCE)
        site.kill_valkey()
        relay.wait_for("broker_away")

        jobs = site.submit_many([f"submitted-{number}" for number in range(300)])
        assert site.one("SELECT count(*) FROM job WHERE state = 'queued'") == len(jobs)
        relay.wait_for("circuit_opened")

        site.servers.valkey.start()
        site.wait_for_all(jobs)
        assert site.wasted() == []
        wait_until(lambda: unpublished(site) == 0, seconds=PATIENCE)
        assert events(site) == recorded(site)
        assert relay.process.poll() is None

    def test_a_worker_with_a_job_in_hand_goes_on(
        self, site: Site, worker: Running, relay: Running
    ) -> None:
        site.has_stock()
        # Longer than a job waits for a lock, if need be.
        with site.connected() as connection:
            connection.execute(HANGS)
        hang(site, "in-hand")
        site.kill_valkey()
        worker.wait_for("Connection to broker lost")
        go_on(site, "in-hand")
        # It is acknowledged on a connection that is gone.
        wait_until(lambda: site.have_succeeded(["in-hand"]), seconds=PATIENCE)

        site.servers.valkey.start()
        site.wait_for_all([site.submit("after")])

        assert worker.process.poll() is None
        assert "Unrecoverable" not in worker.complaints
        assert site.wasted() == []

    def test_the_relay_counts_as_at_work(self, site: Site, relay: Running) -> None:
        site.servers.valkey.kill()
        relay.wait_for("broker_away")
        heartbeat = site.installation.data_folder / "heartbeats" / f"relay.{relay.process.pid}"
        heartbeat.unlink(missing_ok=True)

        wait_until(heartbeat.exists, seconds=PATIENCE)


class TestARedisThatIsKilledBeforeItWroteAllDown:
    def test_is_told_of_the_events_again_that_it_has_lost(
        self, site: Site, worker: Running, relay: Running
    ) -> None:
        site.has_stock()
        site.wait_for_all(site.submit_many([f"before-{number}" for number in range(100)]))
        wait_until(lambda: unpublished(site) == 0, seconds=PATIENCE)
        [journal] = (site.servers.valkey.folder / "data").glob("appendonlydir/*.incr.aof")
        with site.redis as client:
            client.execute_command("WAITAOF", 1, 0, 0)
        written = journal.stat().st_size
        site.wait_for_all(site.submit_many([f"lost-{number}" for number in range(100)]))
        wait_until(lambda: unpublished(site) == 0, seconds=PATIENCE)

        site.servers.valkey.kill()
        os.truncate(journal, written)
        site.servers.valkey.start()

        relay.wait_for("event_stream_behind")
        wait_until(lambda: events(site) == recorded(site), seconds=PATIENCE)
        assert site.wasted() == []


class TestWhileRedisIsFrozen:
    def test_jobs_are_accepted_and_run_when_it_moves_again(
        self, site: Site, worker: Running, relay: Running
    ) -> None:
        site.has_stock()
        with frozen(site.servers.valkey):
            jobs = site.submit_many([f"submitted-{number}" for number in range(100)])
            relay.wait_for("broker_away")

        site.wait_for_all(jobs)
        assert site.failures() == []


class TestWhileRedisIsFull:
    def test_jobs_and_events_wait_and_none_is_lost(
        self, site: Site, worker: Running, relay: Running
    ) -> None:
        site.has_stock()
        wait_until(lambda: unpublished(site) == 0, seconds=PATIENCE)
        with site.redis as client:
            client.config_set("maxmemory", "1")
            jobs = site.submit_many([f"submitted-{number}" for number in range(300)])
            relay.wait_for("broker_away")
            relay.wait_for("circuit=broker_publish")
            # What was claimed and not published is given back.
            wait_until(
                lambda: site.one("SELECT count(*) FROM job WHERE dispatches > 0") == 1,
                seconds=PATIENCE,
            )
            client.config_set("maxmemory", "0")

        site.wait_for_all(jobs)
        assert site.wasted() == []
        wait_until(lambda: unpublished(site) == 0, seconds=PATIENCE)
        assert events(site) == recorded(site)
        assert relay.process.poll() is None

    def test_events_of_one_look_are_taken_all_or_none(self, own_servers: EmbeddedServers) -> None:
        url = own_servers.start().broker_url
        stream = RedisEventStream(url, length=10_000)
        with redis.Redis.from_url(url) as client:
            client.flushall()
            stream.begin(datetime.now(tz=UTC))
            room = client.info("memory")["used_memory"] + ROOM
            client.config_set("maxmemory", room)
            try:
                with pytest.raises(StreamAway):
                    stream.append(
                        [event(number) for number in range(2_000)], until=datetime.now(tz=UTC)
                    )
                assert client.xlen(STREAM) == 0
            finally:
                client.config_set("maxmemory", "0")


class TestWhileTheMirrorIsFrozen:
    @pytest.fixture
    def mirror(self, site: Site, tmp_path: Path) -> Iterator[ValkeyServer]:
        """Run a second Redis, in which stock clients look for outcomes."""
        server = ValkeyServer(tmp_path / "mirror")
        server.start()
        site.installation.variables = {
            **site.installation.variables,
            "TALLYMAN_MIRROR_URL": server.url(),
        }
        yield server
        server.remove_data()

    def test_jobs_do_not_wait_for_it_one_by_one(
        self, site: Site, mirror: ValkeyServer, worker: Running, relay: Running
    ) -> None:
        site.has_stock()
        with frozen(mirror):
            jobs = [site.send(f"sent-{number}") for number in range(MIRRORED)]
            site.wait_for_all(jobs)

            assert "circuit=redis_mirror" in worker.complaints
            # Each of these lines is a second that a job's successor had to wait.
            assert worker.complaints.count("mirror_failed") < MIRRORED / 3

        with redis.Redis.from_url(mirror.url()) as client:
            again = count()

            def is_copied() -> bool:
                job = site.send(f"later-{next(again)}")
                site.wait_for_all([job])
                return bool(client.exists(f"celery-task-meta-{job}"))

            wait_until(is_copied, seconds=PATIENCE)
