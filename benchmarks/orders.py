"""The load: orders over products whose sales are skewed, the same for every contender."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a load comes to."""

    orders: int
    lines: int
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Orders over products with Zipf-like demand; the seed fixes all of it."""

    orders: int
    most_lines: int = 3
    """An order has 1 to so many, each number as often."""
    products: int = 3_000
    seed: int = 7
    skew: float = 0.9
    hot_share: float = 0.0
    """This share of the lines asks for one product, whatever the skew."""
    first: int = 0
    """Number of the first order."""

    def batches(self) -> Iterator[dict[str, object]]:
        """Payloads of one batch per product, large enough that no order is refused."""
        for number in range(self.products):
            yield {"reference": f"B-{number}", "sku": f"SKU-{number}", "quantity": 100_000_000}

    def payloads(self) -> Iterator[dict[str, Any]]:
        """Payloads of `allocation.allocate_order`."""
        source = random.Random(self.seed)
        skus = [f"SKU-{number}" for number in range(self.products)]
        weights = [1 / (rank + 1) ** self.skew for rank in range(self.products)]
        for number in range(self.first, self.first + self.orders):
            lines = source.choices(skus, weights, k=source.randint(1, self.most_lines))
            yield {
                "order_id": f"O-{number}",
                "lines": [
                    {
                        "sku": skus[0] if source.random() < self.hot_share else sku,
                        "quantity": source.randint(1, 6),
                    }
                    for sku in lines
                ],
            }

    def size(self) -> Size:
        """Count it."""
        lines = [line for payload in self.payloads() for line in payload["lines"]]
        return Size(
            orders=self.orders, lines=len(lines), units=sum(line["quantity"] for line in lines)
        )
