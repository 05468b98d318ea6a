"""Who is measured."""

from dataclasses import dataclass

from benchmarks import celery_contenders, floors
from benchmarks.orders import Load
from benchmarks.peers import contenders as peers
from benchmarks.stage import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to work off the same orders."""

    name: str
    """As `--only` knows it."""
    title: str
    run: Run
    share: float = 1.0
    """Of the orders that a round has: who is slower gets fewer, and runs as long."""
    most_lines: int = 3
    """Of an order."""

    def load(self, orders: int) -> Load:
        """Return its load in a round that has so many orders for the fastest."""
        return Load(orders=max(100, int(orders * self.share)), most_lines=self.most_lines)


BASELINE = "celery-noop"

CONTENDERS = (
    Contender(
        name=BASELINE,
        title="stock Celery, no-op",
        run=celery_contenders.stock_noop,
        share=1 / 10,
    ),
    Contender(
        name="celery-textbook",
        title="stock Celery, the textbook's allocation",
        run=celery_contenders.textbook,
        share=1 / 16,
    ),
    Contender(name="dramatiq", title="Dramatiq", run=peers.dramatiq_jobs, share=1 / 8),
    Contender(
        name="procrastinate", title="Procrastinate", run=peers.procrastinate_jobs, share=1 / 12
    ),
    Contender(name="pgqueuer", title="PgQueuer", run=peers.pgqueuer_jobs, share=1 / 8),
    Contender(
        name="floor-orders",
        title="floor: an order a transaction, no queue",
        run=floors.orders,
        share=1 / 4,
    ),
    Contender(
        name="tallyman-a", title="Tallyman, door (a)", run=celery_contenders.door_a, share=1 / 4
    ),
    Contender(name="tallyman-b", title="Tallyman, door (b)", run=celery_contenders.door_b),
    Contender(
        name="tallyman-b-no-events",
        title="Tallyman, door (b), Celery's events off",
        run=celery_contenders.door_b_without_events,
    ),
    Contender(
        name="tallyman-b-december",
        title="Tallyman, door (b), 21 lines an order, as in the December file",
        run=celery_contenders.door_b,
        share=1 / 8,
        most_lines=41,
    ),
    Contender(
        name="floor-batches", title="floor: Tallyman's rows by COPY, no queue", run=floors.batches
    ),
)
