"""What upstream systems ask for: skewed demand, stock that runs out, changes, people."""

from collections import deque
from collections.abc import Mapping
from random import Random
from typing import Any

from tests.chaos.history import Handover

SKUS = 40
SKEW = 1.2
"""Zipf's exponent: the best seller is in every fourth line."""
REMEMBERED = 400
"""Orders, batches and users that changes are about: the newest ones."""
POLICIES = ("all_or_nothing", "all_or_nothing", "backorder", "partial")
STATUSES = ("active", "inactive", "banned")

Payload = dict[str, Any]


class Market:
    """Thinks up jobs; the same seed and name think up the same ones.

    A name sets one market's ids apart from those of another.
    """

    def __init__(self, *, seed: int, name: str) -> None:
        self._chance = Random(f"{seed} {name}")
        self._name = name
        self._count = 0
        self._skus = [f"SKU-{number:02}" for number in range(1, SKUS + 1)]
        self._weights = [1 / rank**SKEW for rank in range(1, SKUS + 1)]
        self._orders: deque[tuple[str, int]] = deque(maxlen=REMEMBERED)
        """Order ids with their numbers of lines."""
        self._batches: deque[str] = deque(maxlen=REMEMBERED)
        self._users: deque[str] = deque(maxlen=REMEMBERED)

    def opening(self) -> list[Handover]:
        """Return a first batch of each product."""
        return [
            self._job("allocation.create_batch", self._batch(sku, on_hand=True))
            for sku in self._skus
        ]

    def order(self) -> Handover:
        chance = self._chance
        skus = chance.choices(self._skus, self._weights, k=chance.choice((1, 1, 2, 2, 3, 5)))
        order_id = f"order-{self._name}-{self._count}"
        self._orders.append((order_id, len(skus)))
        return self._job(
            "allocation.allocate_order",
            {
                "order_id": order_id,
                "lines": [{"sku": sku, "quantity": chance.randint(1, 6)} for sku in skus],
                "policy": chance.choice(POLICIES),
                "may_split": chance.random() < 1 / 3,
                "priority": chance.choice((0, 0, 0, 5)),
            },
        )

    def anything(self) -> Handover:
        """Return a job of any kind; most are orders."""
        draw = self._chance.random()
        if draw < 0.60 or not self._orders or not self._batches:
            return self.order()
        if draw < 0.70:
            [sku] = self._chance.choices(self._skus, self._weights)
            return self._job("allocation.create_batch", self._batch(sku))
        if draw < 0.82:
            return self._change_of_an_order()
        if draw < 0.86:
            return self._change_of_a_batch()
        return self._about_a_user()

    def again_under_another_id(self, handover: Handover) -> Handover:
        """Return the same wish as a job of its own, as of an upstream that forgot its id."""
        return self._job(handover.kind, handover.payload)

    def another_under_the_same_id(self, handover: Handover) -> Handover:
        """Return another job under an id that is taken, as of an upstream with a bug."""
        other = self.order()
        return Handover(job_id=handover.job_id, kind=other.kind, payload=other.payload)

    def _change_of_an_order(self) -> Handover:
        chance = self._chance
        order_id, lines = chance.choice(self._orders)
        line_id = str(chance.randint(1, lines))
        draw = chance.random()
        if draw < 0.4:
            return self._job(
                "allocation.change_line_quantity",
                {"order_id": order_id, "line_id": line_id, "quantity": chance.randint(1, 9)},
            )
        if draw < 0.7:
            return self._job(
                "allocation.deallocate_line", {"order_id": order_id, "line_id": line_id}
            )
        return self._job("allocation.cancel_order", {"order_id": order_id})

    def _change_of_a_batch(self) -> Handover:
        chance = self._chance
        reference = chance.choice(self._batches)
        if chance.random() < 0.7:
            return self._job(
                "allocation.change_batch_quantity",
                {"reference": reference, "quantity": chance.randint(0, 300)},
            )
        return self._job(
            "allocation.change_batch_eta", {"reference": reference, "eta": self._day()}
        )

    def _about_a_user(self) -> Handover:
        chance = self._chance
        draw = chance.random()
        if draw < 0.35 or not self._users:
            user_id = f"user-{self._name}-{self._count}"
            self._users.append(user_id)
            return self._job(
                "users.register",
                {
                    "user_id": user_id,
                    "username": user_id,
                    "email": f"{user_id}@example.com",
                    "name": f"Somebody {self._count}",
                },
            )
        user_id = chance.choice(self._users)
        if draw < 0.75:
            return self._job(
                "users.update", {"user_id": user_id, "name": f"Somebody else {self._count}"}
            )
        if draw < 0.95:
            return self._job(
                "users.change_status", {"user_id": user_id, "status": chance.choice(STATUSES)}
            )
        return self._job("users.erase", {"user_id": user_id})

    def _batch(self, sku: str, *, on_hand: bool = False) -> Payload:
        reference = f"batch-{self._name}-{self._count}"
        self._batches.append(reference)
        eta = None if on_hand or self._chance.random() < 1 / 2 else self._day()
        return {
            "reference": reference,
            "sku": sku,
            "quantity": self._chance.randint(50, 400),
            "eta": eta,
        }

    def _day(self) -> str:
        return f"2030-01-{self._chance.randint(1, 28):02}"

    def _job(self, kind: str, payload: Mapping[str, Any]) -> Handover:
        self._count += 1
        return Handover(job_id=f"{self._name}-{self._count}", kind=kind, payload=payload)
