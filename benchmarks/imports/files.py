"""Generated files: orders as a shop's month has them, and users of whom a few are bad."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

PRODUCTS = 3_000
MEAN_LINES = 21
"""Lines of an order, as in a wholesaler's month."""
SKEW = 0.9
"""Exponent of the Zipf-like sales of products."""
BAD = 100
"""One row in so many is bad, and one is there twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """A line of the file."""

    order_id: str
    line_id: int
    sku: str
    quantity: int


def order_lines(count: int, *, seed: int = 7) -> Iterator[OrderLine]:
    """Yield so many lines, order by order."""
    source = random.Random(seed)
    skus = [f"SKU-{number}" for number in range(PRODUCTS)]
    weights = list(accumulate(1 / (rank + 1) ** SKEW for rank in range(PRODUCTS)))
    left, order = count, 0
    while left:
        lines = min(left, max(1, round(source.expovariate(1 / MEAN_LINES))))
        for line, sku in enumerate(source.choices(skus, cum_weights=weights, k=lines), start=1):
            yield OrderLine(
                order_id=f"O-{order}", line_id=line, sku=sku, quantity=source.randint(1, 12)
            )
        left -= lines
        order += 1


def write_orders(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.write("order_id,sku,quantity\n")
        for line in order_lines(count):
            file.write(f"{line.order_id},{line.sku},{line.quantity}\n")


def write_stock(path: Path, *, quantity: int = 100_000_000) -> None:
    with path.open("w") as file:
        file.write("reference,sku,quantity\n")
        for number in range(PRODUCTS):
            file.write(f"B-{number},SKU-{number},{quantity}\n")


def write_users(path: Path, count: int) -> None:
    """Write users; one in a hundred has no address, and one stands in the file again."""
    with path.open("w") as file:
        file.write("external_id,username,email,name\n")
        for number in range(count):
            if number % BAD == 1:
                file.write(f"{number},user{number},nowhere,User {number}\n")
                continue
            known = number - 1 - BAD if number % BAD == BAD // 2 and number > 2 * BAD else number
            file.write(f"{known},user{known},user{known}@example.com,User {known}\n")
