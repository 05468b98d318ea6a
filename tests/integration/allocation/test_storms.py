"""Any commands at once, on real PostgreSQL."""

from random import Random

import pytest
from sqlalchemy import Engine

from domain.allocation.commands import (
    CancelOrder,
    ChangeBatchEta,
    ChangeBatchQuantity,
    ChangeLineQuantity,
    DeallocateLine,
    Policy,
)
from domain.allocation.strategies import Strategy
from domain.messages import Command
from tests.fakes.allocation_builders import SPRING, SUMMER, a_batch, an_order
from tests.integration.allocation.actors import Actor, a_job, run, told
from tests.stock_audit import read_books, read_portions, replay

SKUS = ["LAMP", "CHAIR", "DESK"]


def a_command(random: Random) -> Command:
    """Return a command over few SKUs, batches and orders, so that commands collide."""
    reference = f"b{random.randrange(8)}"
    order_id = f"o{random.randrange(20)}"
    line_id = str(random.randint(1, 3))
    changes: list[Command] = [
        a_batch(
            f"c{random.randrange(20)}",
            random.randrange(12),
            sku=random.choice(SKUS),
            eta=random.choice([None, SPRING, SUMMER]),
        ),
        ChangeBatchQuantity(
            reference=reference, quantity=random.randrange(20), displace=random.random() < 0.8
        ),
        ChangeBatchEta(reference=reference, eta=random.choice([None, SPRING, SUMMER])),
        ChangeLineQuantity(order_id=order_id, line_id=line_id, quantity=random.randint(1, 9)),
        DeallocateLine(order_id=order_id, line_id=line_id),
        CancelOrder(order_id=order_id),
    ]
    if random.random() < 0.6:
        return _an_order_of(Random(order_id), order_id)
    return random.choice(changes)


def _an_order_of(random: Random, order_id: str) -> Command:
    return an_order(
        order_id,
        *((random.choice(SKUS), random.randint(1, 6)) for _ in range(random.randint(1, 3))),
        policy=random.choice(list(Policy)),
        may_split=random.random() < 0.5,
        strategy=random.choice(list(Strategy)),
        priority=random.randrange(3),
    )


class TestAnyCommandsAtOnce:
    @pytest.mark.parametrize("seed", range(4))
    def test_leave_books_that_agree(self, engine: Engine, seed: int) -> None:
        random = Random(seed)
        run(engine, *(a_batch(f"b{n}", 12, sku=SKUS[n % 3]) for n in range(8)))
        workers = [
            Actor(engine, *(a_job(a_command(random)) for _ in range(40))).start() for _ in range(8)
        ]

        for worker in workers:
            worker.end()

        assert "ok" in {told(report)[0] for worker in workers for report in worker.reports}
        with engine.connect() as connection:
            books = read_books(connection)
            events = read_portions(connection)
        books.audit()
        assert replay(events) == {key: row.quantity for key, row in books.allocations.items()}
