"""Imports that go on while the broker loses its memory, in a `tallyman up` of their own."""

import csv
from pathlib import Path

import pytest

from tests.chaos.flushall import FLUSHED, REPLACED, Disturbance, Files, run

PRODUCTS = 20
ORDERS = 8_000


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Write orders of one unit, for half of which there is stock."""
    made = Files(
        batches=tmp_path / "batches.csv",
        orders=tmp_path / "orders.csv",
        mapping="order_id=number",
    )
    with made.batches.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["reference", "sku", "quantity"])
        stock = ORDERS // PRODUCTS // 2
        writer.writerows([f"batch-{n}", f"sku-{n}", stock] for n in range(PRODUCTS))
    with made.orders.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["number", "sku", "quantity"])
        writer.writerows([f"order-{n}", f"sku-{n % PRODUCTS}", 1] for n in range(ORDERS))
    return made


class TestABrokerThatForgets:
    @pytest.mark.parametrize("disturbance", [FLUSHED, REPLACED], ids=lambda each: each.name)
    def test_in_the_middle_of_an_import_loses_nothing_of_it(
        self, files: Files, disturbance: Disturbance, tmp_path: Path
    ) -> None:
        outcome = run(files, disturbance, folder=tmp_path, waits=True)

        assert 0 < outcome.done_before < ORDERS
        assert outcome.ends == {"allocated": ORDERS // 2, "refused": ORDERS // 2}
        assert outcome.orders == ORDERS
        assert outcome.events_missing == 0
