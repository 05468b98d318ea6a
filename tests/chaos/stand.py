"""One process of the sweep: it hands jobs over, relays them, runs them and relays their events."""

import csv
import json
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import psycopg
import redis
from celery import Celery
from kombu import Connection, Consumer, Message, Queue
from kombu.asynchronous import Hub
from sqlalchemy import Engine

from adapters import redis_transport
from adapters.broker import CeleryBroker
from adapters.event_stream import RedisEventStream
from adapters.payloads import Payloads
from adapters.postgres.dispatches import PostgresDispatches
from adapters.postgres.engine import create
from adapters.postgres.outbox_feed import PostgresOutboxFeed
from adapters.postgres.persistence import Persistently
from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from adapters.sources.described import DescribedSources
from domain.jobs.dispatching import Grouping
from domain.jobs.executor import Executor
from domain.jobs.model import Submission
from domain.jobs.queues import QUEUES
from domain.jobs.retries import Backoff
from domain.kinds import KINDS
from tests.chaos.history import Door, Handover, History
from worker.event_relay import EventRelay
from worker.producer import Producer
from worker.relay import Relay
from worker.schedule import Entry, Every, LedgerScheduler

ROUNDS = 20
"""Times that what is open is run again: as often as all attempts of a job take."""

_SOURCE = """
what = "{what}"
files = "inbox/*-{what}.csv"
settle_seconds = 0
taken_folder = "taken"
"""
_DUE = """
SELECT id, kind FROM job WHERE state IN ('queued', 'retry') AND next_dispatch < 'infinity'
ORDER BY created_at DESC LIMIT 1000"""


@dataclass(kw_only=True)
class Stand:
    """Does all that Tallyman's processes do, one after the other."""

    engine: Engine
    broker_url: str
    history: History
    name: str
    """Part of all ids, so that no two runs meet."""
    reached: Callable[[str], None]
    folder: Path
    """Where its sources of files are described, and files arrive."""
    is_successor: bool
    """Whether another went before, who died."""

    def __post_init__(self) -> None:
        begin_work = BeginPostgresWork(
            engine=self.engine,
            backoff=Backoff(base_seconds=0.001, cap_seconds=0.01),
            reached=self.reached,
            sources=DescribedSources(descriptions=self.folder / "imports", folder=self.folder),
        )
        self.queries = JobQueries(self.engine)
        self.producer = Producer(begin_work=begin_work, queries=self.queries)
        self._executor = Executor(
            kinds=KINDS,
            begin_work=begin_work,
            decode=Payloads(KINDS).decode,
            persistently=Persistently(),
            worker="sweep:1",
            reached=self.reached,
        )

    def id(self, name: str) -> str:
        return f"{self.name}-{name}"

    def submit(self, kind: str, jobs: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Hand jobs over through door (b), as a client that was told nothing yet does again."""
        handovers = [
            Handover(job_id=self.id(name), kind=kind, payload=payload)
            for name, payload in jobs.items()
        ]
        self.history.intended(*handovers)
        self.producer.submit_many(
            self.producer.submission(each.kind, each.payload, job_id=each.job_id)
            for each in handovers
        )
        self.history.accepted(*handovers)
        return [each.job_id for each in handovers]

    def run(self, kind: str, job_ids: Sequence[str], *, redelivered: bool = False) -> None:
        """Run jobs as one message has them; a successor's message was delivered before."""
        self._executor.run_dispatched(kind, job_ids, redelivered=redelivered or self.is_successor)

    def take(self, kind: str, name: str, payload: Mapping[str, Any]) -> None:
        """Run the job of a message that came through door (a)."""
        handover = Handover(job_id=self.id(name), kind=kind, payload=payload, door=Door.MESSAGE)
        self.history.accepted(handover)
        self._executor.run_submitted(
            Submission(job_id=handover.job_id, kind=kind, payload=payload),
            redelivered=self.is_successor,
        )

    def take_together(self, kind: str, jobs: Mapping[str, Mapping[str, Any]]) -> None:
        """Run the jobs of messages that came through door (a) as a process has them in hand."""
        handovers = [
            Handover(job_id=self.id(name), kind=kind, payload=payload, door=Door.MESSAGE)
            for name, payload in jobs.items()
        ]
        self.history.accepted(*handovers)
        self._run_together([(each, self.is_successor) for each in handovers])

    def receive(self, kind: str, jobs: Mapping[str, Mapping[str, Any]]) -> None:
        """Send messages through door (a), and do what a worker does with what it receives."""
        # Redis lives on, and loses nothing: what it has accepted is accepted for good.
        handovers = {
            self.id(name): Handover(job_id=self.id(name), kind=kind, payload=payload)
            for name, payload in jobs.items()
        }
        redis_transport.install()
        with Celery(broker=self.broker_url, set_as_current=False) as app:
            if not self.is_successor:
                for each in handovers.values():
                    app.send_task(
                        kind, kwargs=dict(each.payload), task_id=each.job_id, queue="allocation"
                    )
                self.history.accepted(*handovers.values())
        with Connection(self.broker_url) as connection:
            hub = Hub()
            messages: list[Message] = []
            connection.connect()
            connection.transport.register_with_event_loop(connection.connection, hub)
            channel = connection.default_channel
            channel.reached = self.reached
            queue = Queue("allocation", routing_key="allocation")
            Consumer(channel, queues=[queue], on_message=messages.append).consume()
            if self.is_successor:
                self._age_what_is_taken()
                channel.qos.restore_visible(num=None, interval=1)
            while self._holds_messages():
                hub.run_once()
                self._run_together(
                    [
                        (handovers[each.headers["id"]], each.delivery_info["redelivered"])
                        for each in messages
                    ]
                )
                for message in messages:
                    message.ack()
                messages.clear()
            hub.close()

    def _holds_messages(self) -> bool:
        """Tell whether the broker has any, waiting or taken."""
        with redis.Redis.from_url(self.broker_url) as client:
            return bool(client.llen("allocation") or client.hlen("unacked"))

    def _age_what_is_taken(self) -> None:
        """Let what a dead worker has taken be taken long ago."""
        with redis.Redis.from_url(self.broker_url, decode_responses=True) as client:
            tags = cast("list[str]", client.zrange("unacked_index", 0, -1))
            if tags:
                client.zadd("unacked_index", dict.fromkeys(tags, 0))

    def _run_together(self, handovers: Sequence[tuple[Handover, bool]]) -> None:
        done: set[str] = set()
        new = [self._carried(each) for each, is_redelivered in handovers if not is_redelivered]
        if len(new) > 1:
            # Whatever fails it, one of them meets it by itself.
            with suppress(Exception):
                reports = self._executor.run_submitted_together(new[0].kind, new)
                done = {report.job.id for report in reports}
        for each, is_redelivered in handovers:
            if each.job_id not in done:
                self._executor.run_submitted(self._carried(each), redelivered=is_redelivered)

    @staticmethod
    def _carried(each: Handover) -> Submission:
        return Submission(job_id=each.job_id, kind=each.kind, payload=each.payload)

    def do(self, kind: str, jobs: Mapping[str, Mapping[str, Any]]) -> None:
        """Hand jobs over and run them as one message."""
        self.run(kind, self.submit(kind, jobs))

    def lay(self, what: str, rows: Sequence[Mapping[str, str]]) -> None:
        """Lay a file of rows where `look` finds it."""
        for name in ("imports", "inbox"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "imports" / f"{what}.toml").write_text(_SOURCE.format(what=what))
        name = f"{self.id(what)}.csv"
        with (self.folder / "inbox" / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        self.history.file(name, what=what, rows=rows)

    def look(self, what: str) -> None:
        """Have a worker look for files, and import what it finds."""
        self.do("imports.scan_source", {f"look-{what}": {"source": what}})
        for job_id, kind in self._due():
            self.run(kind, [job_id])

    def relay(self) -> None:
        """Tell workers what is due, and run what they are told."""
        self.tell()
        for kind, job_ids in self._messages():
            self.run(kind, job_ids)

    def tell(self) -> None:
        """Tell workers what is due."""
        with Celery(broker=self.broker_url, set_as_current=False) as app:
            relay = Relay(
                dispatches=PostgresDispatches(self.engine),
                broker=CeleryBroker(app, url=self.broker_url),
                queues=QUEUES,
                grouping=Grouping(most=3, spread=1),
                depth=100,
                poll_seconds=1.0,
                reached=self.reached,
            )
            if self.is_successor:
                self._pass_time()
            relay.notice_lost_memory()
            relay.relay_once()

    def forget(self) -> None:
        """Let the broker lose its memory."""
        with redis.Redis.from_url(self.broker_url) as client:
            client.delete(*QUEUES, "tallyman:epoch")

    def tick(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Submit the slot of a schedule, and run its job."""
        entry = Entry(name=self.name, kind=kind, payload=payload, timing=Every(seconds=3600))
        moment = datetime(2030, 1, 1, tzinfo=UTC)
        handover = Handover(job_id=entry.job_id(moment), kind=kind, payload=payload)
        self.history.intended(handover)
        with Celery(set_as_current=False) as app:
            LedgerScheduler(
                app,
                schedule_entries=(entry,),
                submit=self.producer.submit,
                clock=lambda: moment,
                reached=self.reached,
            ).tick()
        self.history.accepted(handover)
        self.run(kind, [handover.job_id])

    def relay_events(self) -> None:
        """Bring all events onto the stream."""
        relay = EventRelay(
            feed=PostgresOutboxFeed(self.engine),
            stream=RedisEventStream(self.broker_url, length=10_000_000),
            reached=self.reached,
        )
        with relay.feed.reading() as reader:
            assert reader is not None
            while relay.relay_once(reader):
                pass

    def execute(self, statement: str) -> None:
        """Do something to the database behind the product's back."""
        url = self.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def finish(self) -> None:
        """Run what is open until nothing is, and note how all of it ended."""
        for _ in range(ROUNDS):
            left = self._due()
            if not left:
                break
            for job_id, kind in left:
                self._executor.run_dispatched(kind, [job_id], redelivered=True)
        self.relay_events()
        with redis.Redis.from_url(self.broker_url, decode_responses=True) as client:
            self.history.events(client.xrange("tallyman:events", count=10))
        self.history.drained(seconds=1.0, allowed=30.0)

    def _due(self) -> list[tuple[str, str]]:
        """Return the id and kind of what is open and waits for nothing else."""
        with self.engine.connect() as connection:
            return [(row.id, row.kind) for row in connection.exec_driver_sql(_DUE)]

    def _pass_time(self) -> None:
        self.execute("UPDATE job SET next_dispatch = now() WHERE state IN ('queued', 'retry')")

    def _messages(self) -> list[tuple[str, list[str]]]:
        """Take what waits in the broker, as workers would."""
        found: list[tuple[str, list[str]]] = []
        with redis.Redis.from_url(self.broker_url, decode_responses=True) as client:
            for queue in QUEUES:
                while (message := client.rpop(queue)) is not None:
                    envelope = json.loads(str(message))
                    [[job_ids], _, _] = json.loads(b64decode(envelope["body"]))
                    found.append((envelope["headers"]["task"], job_ids))
        return found


@contextmanager
def opened(
    url: str,
    *,
    broker_url: str,
    history: Path,
    name: str,
    reached: Callable[[str], None],
    folder: Path,
    is_successor: bool,
) -> Iterator[Stand]:
    """Give a stand that writes down what its clients did, over an engine of its own."""
    engine = create(url, by_index=True, plans_once=True)
    try:
        with History(history) as told:
            yield Stand(
                engine=engine,
                broker_url=broker_url,
                history=told,
                name=name,
                reached=reached,
                folder=folder,
                is_successor=is_successor,
            )
    finally:
        engine.dispose()
