"""Run the contenders in turn, several times, and print medians and ratios.

python -m benchmarks [--orders 20000] [--rounds 3] [--processes 4] [--json FILE]
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from adapters.embedded.servers import EmbeddedServers
from benchmarks.contenders import CONTENDERS, Stage
from benchmarks.orders import Load

BASELINE = "stock Celery, no-op"
SLOW = frozenset({"stock Celery, no-op", "Tallyman, door (a)"})
"""One message a job: a quarter of the orders will do."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write every run to this file")
    options = parser.parse_args()
    console = Console()
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="tallyman-bench-") as folder:
        embedded = EmbeddedServers(Path(folder))
        try:
            stage = Stage(servers=embedded.start(), logs=Path(folder), processes=options.processes)
            for turn in range(options.rounds):
                for name, contender in CONTENDERS.items():
                    orders = options.orders // 4 if name in SLOW else options.orders
                    timing = contender(stage, Load(orders=orders))
                    rates[name].append(timing.rate)
                    console.print(
                        f"round {turn + 1}: {name}: {timing.jobs:,} jobs"
                        f" in {timing.seconds:.2f} s, {timing.rate:,.0f}/s"
                    )
        finally:
            embedded.remove_data()
    console.print(_table(rates))
    if options.json:
        options.json.write_text(json.dumps(rates, indent=2) + "\n")


def _table(rates: dict[str, list[float]]) -> Table:
    table = Table(title="Jobs a second, and how many times the baseline")
    for column in ("contender", "median", "least", "most", "ratio"):
        table.add_column(column, justify="left" if column == "contender" else "right")
    baseline = median(rates[BASELINE])
    for name, found in rates.items():
        table.add_row(
            name,
            f"{median(found):,.0f}/s",
            f"{min(found):,.0f}",
            f"{max(found):,.0f}",
            f"{median(found) / baseline:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
