"""Measure door (b) as the ledger grows, on a hot product, with more workers, under an old snapshot.

python -m benchmarks.growth [--orders 40000] [--history 0 1000000 5000000] [--rounds 3]
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import psycopg
from rich.console import Console
from rich.table import Table

from adapters.embedded.servers import EmbeddedServers
from benchmarks import figures
from benchmarks.celery_contenders import run_accepted
from benchmarks.growth import history
from benchmarks.growth.history import History
from benchmarks.orders import Load
from benchmarks.stack import plain
from benchmarks.stage import Stage, Timing, check, connected, count

HOT_SHARE = 0.5
PINNED_SECONDS = 60.0
WORKERS = (1, 2, 4)

Rates = dict[str, list[float]]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__)
    parser.add_argument("--orders", type=int, default=40_000)
    parser.add_argument("--history", type=int, nargs="+", default=[0, 1_000_000, 5_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pinned-seconds", type=float, default=PINNED_SECONDS)
    parser.add_argument("--output", type=Path, default=Path(".tallyman/bench"))
    options = parser.parse_args()
    console = Console()
    rates: Rates = {}
    with tempfile.TemporaryDirectory(prefix="tallyman-bench-") as folder:
        embedded = EmbeddedServers(Path(folder))
        try:
            stage = Stage(servers=embedded.start(), logs=Path(folder), processes=max(WORKERS))
            machine = figures.machine(stage)
            for number in range(options.rounds):
                load = Load(orders=options.orders)
                _fresh(stage, load, "even demand", rates)
                _fresh(stage, replace(load, hot_share=HOT_SHARE), "half of it one product", rates)
                for workers in WORKERS:
                    fewer = replace(stage, processes=workers)
                    _fresh(fewer, load, f"worker processes: {workers}", rates)
                console.print(f"round {number + 1} of {options.rounds}: {_latest(rates)}")
            _under_snapshot(stage, options.orders, options.pinned_seconds, rates)
            console.print(f"pinned: {_latest(rates)}")
            for jobs in options.history:
                with stage.database(Load(orders=0)) as url:
                    history.write(plain(url), History(jobs=jobs))
                    _settle(embedded)
                    rates[f"finished jobs on record: {jobs:,}"] = _again_and_again(
                        stage, url, orders=options.orders, times=options.rounds
                    )
                console.print(f"{jobs:,} finished jobs: {_latest(rates)}")
        finally:
            embedded.remove_data()
    console.print(_table(rates))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "growth.json").write_text(
        json.dumps({"machine": machine, "jobs_per_second": rates}, indent=2) + "\n"
    )


def _fresh(stage: Stage, load: Load, what: str, rates: Rates) -> None:
    with stage.database(load) as url:
        timing = run_accepted(stage, load, url)
        check(url, load)
    rates.setdefault(what, []).append(timing.rate)


def _settle(embedded: EmbeddedServers) -> None:
    """Have what was made in minutes written down, as what came in years was long ago."""
    with psycopg.connect(plain(embedded.postgres.superuser_url()), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    os.sync()


def _again_and_again(stage: Stage, url: str, *, orders: int, times: int) -> list[float]:
    loads = [Load(orders=orders, first=number * orders) for number in range(times)]
    return [_more(stage, load, url).rate for load in loads]


def _under_snapshot(stage: Stage, orders: int, seconds: float, rates: Rates) -> None:
    """Work while an old snapshot keeps every dead row from being cleared away."""
    with stage.database(Load(orders=0)) as url, _pinned(url):
        began = time.monotonic()
        number = 0
        while not number or time.monotonic() < began + seconds:
            timing = _more(stage, Load(orders=orders, first=number * orders), url)
            rates.setdefault(f"a snapshot of {seconds:.0f} s and older", []).append(timing.rate)
            number += 1


@contextmanager
def _pinned(url: str) -> Iterator[None]:
    with psycopg.connect(plain(url)) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM job")
        yield
        connection.rollback()


def _more(stage: Stage, load: Load, url: str) -> Timing:
    """Work off a load in a database that is in use; judge it by what it added."""
    allocated = "SELECT sum(allocated) FROM batch"
    with connected(url) as connection:
        before = count(connection, allocated)
        timing = run_accepted(stage, load, url)
        added = count(connection, allocated) - before
    assert added == load.size().units, f"{added:,} units were allocated"
    return timing


def _latest(rates: Rates) -> str:
    name, found = list(rates.items())[-1]
    return (
        f"{name}: {', '.join(f'{rate:,.0f}/s' for rate in found)} (load {os.getloadavg()[0]:.1f})"
    )


def _table(rates: Rates) -> Table:
    table = Table(title="Door (b), jobs a second, beside even demand on an empty ledger")
    for column in ("what", "median", "least", "most", "times"):
        table.add_column(column, justify="left" if column == "what" else "right")
    baseline = median(rates["even demand"])
    for name, found in rates.items():
        table.add_row(
            name,
            f"{median(found):,.0f}",
            f"{min(found):,.0f}",
            f"{max(found):,.0f}",
            f"{median(found) / baseline:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
