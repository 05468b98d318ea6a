"""What the demo does: it hands in a shop's jobs, makes trouble, and looks at what came of it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import Celery

from adapters.postgres.audit import Books, Moved, StockAudit
from adapters.postgres.engine import create
from adapters.postgres.queries import JobCount, JobQueries, JobView
from adapters.postgres.stock_queries import StockQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.allocation.commands import AllocateOrder, ChangeBatchQuantity, CreateBatch
from domain.allocation.orders import OrderLine, OrderState
from domain.jobs.model import JobState, Submission
from domain.users.commands import ChangeUserStatus, EraseUser, RegisterUser, UpdateUser
from worker.addresses import Addresses
from worker.demonstration.shop import Payload, Shop
from worker.producer import Producer
from worker.stack import GivenUp

ORDERS = "demo-orders"
"""Correlation id of the shop's orders."""
HELD = "HELD-1"
"""Batch whose row is locked for a while."""
STOCK_CLIENT_JOBS = 40
WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.1


class Stuck(Exception):
    """Something that has to happen did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What came of it all."""

    submitted: int
    """Orders of the shop handed in."""
    counts: Sequence[JobCount]
    orders: Mapping[OrderState, int]
    jobs_in_pace: int
    seconds: float
    """From the first order accepted to the last one committed."""
    books: Books
    answers: Mapping[str, int]
    """States that a stock Celery client was told of its jobs."""
    retried: JobView
    retry_reason: str
    unknown_sku: JobView
    malformed: JobView
    cut: str
    cut_from: int
    cut_to: int
    moved: Moved
    line: OrderLine | None

    def problems(self) -> Iterator[str]:
        """Say what is not as it has to be."""
        for state in (JobState.DEAD, JobState.QUEUED, JobState.RETRY):
            jobs = sum(count.jobs for count in self.counts if count.state is state)
            if jobs:
                yield f"{jobs} jobs are {state}"
        if self.jobs_in_pace != self.submitted:
            yield f"{self.submitted} orders were handed in, {self.jobs_in_pace} were done"
        if not self.books.balance:
            yield f"the books of stock do not balance: {self.books}"
        if sum(self.answers.values()) != STOCK_CLIENT_JOBS + 1:
            yield f"the stock client was told of {sum(self.answers.values())} jobs"
        if self.retried.state is not JobState.SUCCEEDED or self.retried.attempts < 2:  # noqa: PLR2004  one that failed, one that did not
            yield f"the job that was kept waiting is {self.retried.state}, not retried with success"
        for refused, reason in (
            (self.unknown_sku, "InvalidSku"),
            (self.malformed, "InvalidPayload"),
        ):
            if refused.error is None or refused.error.type != reason:
                yield f"job {refused.id} is {refused.state}, not refused as {reason}"
        if not self.moved.released:
            yield f"the cut of {self.cut} released nothing"


class Demonstration:
    """Plays a shop on a running stack."""

    def __init__(self, addresses: Addresses, *, stopping: threading.Event) -> None:
        self._stopping = stopping
        engine = create(addresses.database_url, application="tallyman demo", pool_size=4)
        self._jobs = JobQueries(engine)
        self._audit = StockAudit(engine)
        self._stock = StockQueries(engine)
        self._producer = Producer(begin_work=BeginPostgresWork(engine=engine), queries=self._jobs)
        # As any program would that knows nothing of Tallyman but its broker.
        self._client = Celery(
            "shop",
            broker=addresses.broker_url,
            backend=addresses.mirror_url,
            set_as_current=False,
        )

    def play(self, shop: Shop, *, tell: Callable[[str], None]) -> Findings:
        """Play it from the first batch to the last check.

        Raises:
            Stuck: Something did not happen in time.
            GivenUp: The demo was told to stop.
        """
        tell(f"{len(shop.batches)} batches of stock …")
        self._submit_and_wait(CreateBatch.kind, [*shop.batches, _batch(HELD)])
        tell(f"{len(shop.orders)} orders, with one whose stock somebody else has locked …")
        with self._kept_waiting() as retried:
            self._submit(AllocateOrder.kind, shop.orders, correlation_id=ORDERS)
            sent = self._send(shop.orders)
            unknown_sku = self._submit(AllocateOrder.kind, [_order("order-unknown", "NO-SUCH-SKU")])
            tell(f"{len(shop.people)} people: register, update, activate, erase …")
            self._serve(shop.people)
            self._wait(lambda: self._find(retried).state is JobState.RETRY, "a retry")
        self._wait(lambda: not self._jobs.open_jobs(), "the end of all jobs")
        answers = Counter(
            result.state for result in sent if result.get(timeout=WAIT_SECONDS, propagate=False)
        )
        tell("A delivery was counted wrongly: the busiest batch is cut by half …")
        cut, cut_from = self._audit.busiest_batch()
        cut_to = cut_from // 2
        [cut_job] = self._submit_and_wait(
            ChangeBatchQuantity.kind, [{"reference": cut, "quantity": cut_to}]
        )
        counted, seconds = self._audit.pace(ORDERS)
        return Findings(
            submitted=len(shop.orders),
            counts=self._jobs.counts(),
            orders=self._audit.orders(),
            jobs_in_pace=counted,
            seconds=seconds,
            books=self._audit.books(),
            answers=answers,
            retried=self._find(retried),
            retry_reason=self._jobs.failures(retried)[0].error.message,
            unknown_sku=self._find(unknown_sku[0]),
            malformed=self._find(sent[-1].id),
            cut=cut,
            cut_from=cut_from,
            cut_to=cut_to,
            moved=self._audit.moved_by(cut_job),
            line=self._contested_line(),
        )

    @contextmanager
    def _kept_waiting(self) -> Iterator[str]:
        """Give the id of a job that cannot be done while the context lasts."""
        with self._audit.batch_locked(HELD):
            [job_id] = self._submit(AllocateOrder.kind, [_order("order-held", "SKU-HELD")])
            # Alone in its message: whatever shares one with it would wait as well.
            self._wait(lambda: self._find(job_id).dispatches > 0, "the relay")
            yield job_id

    def _send(self, orders: Sequence[Payload]) -> list[Any]:
        """Send more orders as a stock Celery client does, and a message that is no order."""
        payloads = [
            {**order, "order_id": f"sent-{number:02}"}
            for number, order in enumerate(orders[:STOCK_CLIENT_JOBS], start=1)
        ]
        while len(payloads) < STOCK_CLIENT_JOBS:
            payloads.append({**payloads[0], "order_id": f"sent-{len(payloads) + 1:02}"})
        return [
            self._client.send_task(AllocateOrder.kind, kwargs=payload, queue="allocation")
            for payload in [*payloads, {"order_id": "sent-bad", "lines": "two of everything"}]
        ]

    def _serve(self, people: Sequence[Payload]) -> None:
        ids = [person["user_id"] for person in people]
        self._submit_and_wait(RegisterUser.kind, people)
        self._submit_and_wait(
            UpdateUser.kind, [{"user_id": user_id, "email_verified": True} for user_id in ids]
        )
        self._submit_and_wait(
            ChangeUserStatus.kind, [{"user_id": user_id, "status": "active"} for user_id in ids]
        )
        self._submit_and_wait(
            EraseUser.kind, [{"user_id": user_id} for user_id in ids[: len(ids) // 4]]
        )

    def _submit_and_wait(self, kind: str, payloads: Sequence[Payload]) -> list[str]:
        job_ids = self._submit(kind, payloads, correlation_id=f"demo-{kind}")
        self._wait(
            lambda: not self._jobs.open_jobs(correlation_id=f"demo-{kind}"), f"all {kind} jobs"
        )
        return job_ids

    def _submit(
        self, kind: str, payloads: Sequence[Payload], *, correlation_id: str | None = None
    ) -> list[str]:
        submissions: list[Submission] = [
            self._producer.submission(kind, payload, correlation_id=correlation_id)
            for payload in payloads
        ]
        return [receipt.job_id for receipt in self._producer.submit_many(submissions)]

    def _find(self, job_id: str) -> JobView:
        job = self._jobs.find(job_id)
        if job is None:
            raise Stuck(f"the ledger does not know job {job_id}, which it accepted")
        return job

    def _contested_line(self) -> OrderLine | None:
        identity = self._audit.contested_line()
        if identity is None:
            return None
        order_id, line_id = identity
        order = self._stock.order(order_id)
        return order.line(line_id) if order else None

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if self._stopping.wait(LOOK_SECONDS):
                raise GivenUp
            if time.monotonic() > deadline:
                raise Stuck(f"waited {WAIT_SECONDS:.0f} seconds for {what}")


def _batch(reference: str) -> Payload:
    return {"reference": reference, "sku": "SKU-HELD", "quantity": 10, "eta": None}


def _order(order_id: str, sku: str) -> Payload:
    return {"order_id": order_id, "lines": [{"sku": sku, "quantity": 1}]}
