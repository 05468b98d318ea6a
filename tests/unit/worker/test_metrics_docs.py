"""The table of metrics says what the code tells."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.scraping import CATALOGUE
from worker.metrics import ledger_catalogue, process_catalogue
from worker.metrics.catalogue import Described

DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
NAME = re.compile(r"[a-z]+(_[a-z]+)*")


def described(module: ModuleType) -> Iterator[str]:
    for metric in vars(module).values():
        if isinstance(metric, Described):
            labels = ", ".join(f"`{label}`" for label in metric.labels) or "\N{EN DASH}"
            yield f"| `{metric.name}` | {metric.type} | {labels} | {metric.help} |"


def section(title: str) -> list[str]:
    text = DOCS.read_text(encoding="utf-8").partition(f"\n## {title}")[2].partition("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("| `tallyman_")]


class TestTheTable:
    @pytest.mark.parametrize(
        ("title", "module"),
        [("Of the ledger", ledger_catalogue), ("Of each process", process_catalogue)],
    )
    def test_has_every_metric_and_no_other(self, title: str, module: ModuleType) -> None:
        assert section(title) == list(described(module))

    @pytest.mark.parametrize("metric", CATALOGUE.values(), ids=lambda metric: metric.name)
    def test_names_them_as_prometheus_asks(self, metric: Described) -> None:
        assert NAME.fullmatch(metric.name)
        assert all(map(NAME.fullmatch, metric.labels))
        assert metric.help.endswith(".")
