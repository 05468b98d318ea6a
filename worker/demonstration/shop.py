"""A made-up shop: products that sell unevenly, stock that nearly suffices, orders, people."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil
from typing import Any

Payload = dict[str, Any]

PRODUCTS = 300
SKEW = 1.1
"""Zipf's exponent: the best seller is wanted twice as often as the second, and so on."""
MOST_LINES = 5
MOST_UNITS = 10
MOST_BATCHES = 4
PEOPLE = 12
POLICIES = {"all_or_nothing": 60, "backorder": 25, "partial": 15}
"""How many of a hundred orders have each policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """Payloads of a shop's jobs; the same seed makes the same shop."""

    batches: Sequence[Payload]
    orders: Sequence[Payload]
    people: Sequence[Payload]


def make_shop(*, orders: int, seed: int, today: date) -> Shop:
    """Make a shop whose stock covers 80% to 130% of what its orders want of each product."""
    chance = random.Random(seed)  # noqa: S311  guards nothing, and has to be the same each time
    made = [_order(number, chance) for number in range(1, orders + 1)]
    wanted = Counter(dict.fromkeys(_skus(), 1))
    for order in made:
        for line in order["lines"]:
            wanted[line["sku"]] += line["quantity"]
    return Shop(
        batches=[
            batch
            for sku, units in sorted(wanted.items())
            for batch in _batches(sku, ceil(units * chance.uniform(0.8, 1.3)), chance, today)
        ],
        orders=made,
        people=[
            {
                "user_id": f"user-{number:02}",
                "username": f"customer{number:02}",
                "email": f"customer{number:02}@example.com",
                "name": f"Customer {number:02}",
            }
            for number in range(1, PEOPLE + 1)
        ],
    )


def _skus() -> list[str]:
    return [f"SKU-{number:03}" for number in range(1, PRODUCTS + 1)]


def _order(number: int, chance: random.Random) -> Payload:
    weights = [1 / rank**SKEW for rank in range(1, PRODUCTS + 1)]
    skus = dict.fromkeys(chance.choices(_skus(), weights, k=chance.randint(1, MOST_LINES)))
    [policy] = chance.choices(list(POLICIES), list(POLICIES.values()))
    return {
        "order_id": f"order-{number:05}",
        "lines": [{"sku": sku, "quantity": chance.randint(1, MOST_UNITS)} for sku in skus],
        "policy": policy,
        "may_split": chance.random() < 1 / 3,
    }


def _batches(sku: str, units: int, chance: random.Random, today: date) -> Iterator[Payload]:
    """Split units into batches: the first on hand, the rest on their way."""
    parts = min(units, chance.randint(2, MOST_BATCHES))
    cuts = sorted(chance.sample(range(1, units), parts - 1)) if parts > 1 else []
    for place, (start, end) in enumerate(zip([0, *cuts], [*cuts, units], strict=True)):
        eta = today + timedelta(days=7 * place + chance.randint(0, 6)) if place else None
        yield {
            "reference": f"{sku}-{place + 1}",
            "sku": sku,
            "quantity": end - start,
            "eta": eta.isoformat() if eta else None,
        }
