"""A small run in which all went well, for tests that spoil it."""

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import Engine

from adapters.event_stream import RedisEventStream
from adapters.files.opening import open_table
from adapters.postgres.outbox_feed import PostgresOutboxFeed
from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.imports.columns import Columns
from domain.imports.runs import Plan
from domain.imports.targets import IMPORTS, Target
from domain.jobs.errors import IdempotencyConflict
from domain.jobs.model import Submission
from domain.kinds import KINDS
from tests.chaos.evidence import STREAM
from tests.chaos.history import Door, Handover, History
from tests.jobs import build_executor
from worker.event_relay import EventRelay
from worker.importer import take_file
from worker.producer import Producer

KIND_OF = {name.partition(".")[2]: name for name in KINDS}


@dataclass(kw_only=True)
class Run:
    """Hands jobs over, has them done at once, and keeps a history of it."""

    engine: Engine
    broker_url: str
    history: History

    def __post_init__(self) -> None:
        self._queries = JobQueries(self.engine)
        self._producer = Producer(
            begin_work=BeginPostgresWork(engine=self.engine), queries=self._queries
        )
        self._executor = build_executor(self.engine, KINDS)
        self._handovers: dict[str, Handover] = {}

    def submit(self, job_id: str, kind: str, **payload: Any) -> None:
        """Have a job of door (b) accepted and done."""
        handover = Handover(job_id=job_id, kind=KIND_OF[kind], payload=payload)
        self._handovers[job_id] = handover
        self.history.intended(handover)
        self._producer.submit(handover.kind, handover.payload, job_id=job_id)
        self.history.accepted(handover)
        self._executor.run_dispatched(handover.kind, [job_id], redelivered=False)
        self.read(job_id)

    def send(self, job_id: str, kind: str, **payload: Any) -> None:
        """Have a message of door (a) taken and done."""
        handover = Handover(job_id=job_id, kind=KIND_OF[kind], payload=payload, door=Door.MESSAGE)
        self.history.accepted(handover)
        self._executor.run_submitted(
            Submission(job_id=job_id, kind=handover.kind, payload=payload), redelivered=False
        )

    def submit_again(self, job_id: str) -> None:
        """Hand a job over once more, and its message out once more."""
        handover = self._handovers[job_id]
        self._producer.submit(handover.kind, handover.payload, job_id=job_id)
        self.history.accepted(handover)
        self._executor.run_dispatched(handover.kind, [job_id], redelivered=True)
        self.read(job_id)

    def submit_another(self, job_id: str, **changes: Any) -> None:
        """Use an id a second time, for another job."""
        first = self._handovers[job_id]
        handover = Handover(job_id=job_id, kind=first.kind, payload={**first.payload, **changes})
        try:
            self._producer.submit(handover.kind, handover.payload, job_id=job_id)
        except IdempotencyConflict as error:
            self.history.refused(handover, error=error)

    def import_file(self, what: str, rows: Sequence[Mapping[str, str]]) -> None:
        """Have a file taken and imported."""
        path = self.history.path.with_name(f"{what}.csv")
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        self.history.file(path.name, what=what, rows=rows)
        table = open_table(path)
        target = Target(what)
        columns = Columns.match(table.header, IMPORTS[target].fields, mapped={}, constants={})
        run_id = take_file(
            table,
            Plan(target=target, header=table.header, columns=columns),
            begin_work=BeginPostgresWork(engine=self.engine),
        ).run_id
        self._executor.run_dispatched("imports.import_chunk", [f"{run_id}:1"], redelivered=False)
        self._executor.run_dispatched("imports.import_file", [run_id], redelivered=False)

    def read(self, job_id: str) -> None:
        """Note how a job stands."""
        job = self._queries.find(job_id)
        assert job is not None
        self.history.answered(
            job_id,
            state=job.state,
            result=job.result,
            error=job.error.type if job.error else None,
        )

    def relay_events(self) -> None:
        """Bring all events onto the stream."""
        relay = EventRelay(
            feed=PostgresOutboxFeed(self.engine),
            stream=RedisEventStream(self.broker_url, length=100_000),
        )
        with relay.feed.reading() as reader:
            assert reader is not None
            while relay.relay_once(reader):
                pass


def make(engine: Engine, broker_url: str, history: Path) -> None:
    """Run jobs of most kinds, and tell a history in which little went wrong."""
    with History(history) as told:
        run = Run(engine=engine, broker_url=broker_url, history=told)
        _trade(run)
        _serve_people(run)
        _import_files(run)
        _have_trouble(run)
        run.relay_events()
        with redis.Redis.from_url(broker_url, decode_responses=True) as client:
            entries = client.xrange(STREAM, count=5)
            told.events([(entry, fields) for entry, fields in entries])
        told.drained(seconds=1.0, allowed=30.0)


def _trade(run: Run) -> None:
    run.submit("batch-1", "create_batch", reference="B-1", sku="TEA", quantity=10)
    run.submit("batch-2", "create_batch", reference="B-2", sku="CUP", quantity=5)
    run.submit("order-1", "allocate_order", **_order("O-1", TEA=2, CUP=1))
    run.submit_again("order-1")
    run.submit_another("order-1", priority=3)
    run.submit("order-1-again", "allocate_order", **_order("O-1", TEA=2, CUP=1))
    run.submit("order-refused", "allocate_order", **_order("O-2", CUP=50))
    run.submit("order-waits", "allocate_order", **_order("O-3", TEA=9), policy="backorder")
    run.submit("batch-3", "create_batch", reference="B-3", sku="TEA", quantity=9)
    run.send("order-sent", "allocate_order", **_order("O-4", TEA=1))
    run.submit("order-5", "allocate_order", **_order("O-5", TEA=1, CUP=1))
    run.submit("cancel-5", "cancel_order", order_id="O-5")
    run.submit("order-6", "allocate_order", **_order("O-6", TEA=1, CUP=1))
    run.submit("deallocate-6", "deallocate_line", order_id="O-6", line_id="2")
    run.submit("change-6", "change_line_quantity", order_id="O-6", line_id="1", quantity=2)
    run.submit("order-7", "allocate_order", **_order("O-7", CUP=1))
    run.submit("change-7", "change_line_quantity", order_id="O-7", line_id="1", quantity=2)
    run.submit("cut-2", "change_batch_quantity", reference="B-2", quantity=4)


def _serve_people(run: Run) -> None:
    for user_id in ("ann", "ben"):
        run.submit(
            f"register-{user_id}",
            "register",
            user_id=user_id,
            username=user_id,
            email=f"{user_id}@example.com",
            name=user_id,
        )
    run.submit("update-ann", "update", user_id="ann", name="Ann the First")
    run.submit("activate-ann", "change_status", user_id="ann", status="active")
    run.submit("erase-ben", "erase", user_id="ben")


def _import_files(run: Run) -> None:
    run.import_file("batches", [{"reference": "F-1", "sku": "POT", "quantity": "9"}])
    run.import_file(
        "orders",
        [
            {"order_id": "F-2", "sku": "POT", "quantity": "2"},
            {"order_id": "F-2", "sku": "POT", "quantity": "1"},
        ],
    )
    person = {"user_id": "cat", "username": "cat", "email": "cat@example.com", "name": "cat"}
    run.import_file("users", [person])


def _have_trouble(run: Run) -> None:
    now = time.time()
    told = run.history
    told.accepted(_job("sent-and-lost", door=Door.MESSAGE))
    told.ambiguous(_job("absent"), error=ConnectionError("cut off"))
    run.submit("landed", "allocate_order", **_order("O-8", TEA=1))
    told.ambiguous(_job("landed", order="O-8"), error=ConnectionError("cut off"))
    told.fault("child_killed", began=now - 2, ended=now - 1)


def _job(job_id: str, *, order: str = "O-none", door: Door = Door.SUBMISSION) -> Handover:
    payload = _order(order, TEA=1)
    return Handover(job_id=job_id, kind=KIND_OF["allocate_order"], payload=payload, door=door)


def _order(order_id: str, **lines: int) -> Mapping[str, Any]:
    return {
        "order_id": order_id,
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines.items()],
    }
