"""A queueing model of Tallyman, fitted to measured costs, checked here, and asked about more.

python -m benchmarks.scaling [--orders 40000] [--rounds 1]

Costs are seconds of a processor for a job, by part, from runs of this machine: they change little
with what else it does. The model makes rates of them; those of 1, 2 and 4 worker processes are
measured as well, and stand beside what the model says.
"""

import argparse
import json
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import simpy
from rich.console import Console
from rich.table import Table

from benchmarks.costs import CORES, Costs, measure
from benchmarks.orders import Load
from domain.jobs.dispatching import Grouping

BATCH = Grouping().most
BATCHES = 600
"""Batches that are simulated, of which the first sixth warms up."""
WORKERS = (1, 2, 4)
FACTORS = (1, 10, 100, 1_000)
BUSY = 0.7
"""Share of a processor's time that is planned with: beyond it queues grow fast."""
ROUND_TRIPS = 12
"""Statements of a batch; each waits for the network where the database is elsewhere."""
NETWORK_SECONDS = 0.000_5
WORKER_CORES = 8
DATABASE_CORES = 32
LOG_BYTES = 400e6
"""What one PostgreSQL is given before its ledger is split: cores, and bytes of log a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """What jobs are run on."""

    workers: int
    worker_cores: int
    database_cores: int
    """0 where all share the cores of one machine."""
    relays: int = 1
    network_seconds: float = 0.0


def rate(costs: Costs, plant: Plant) -> float:
    """Return the jobs a second that a plant does, by simulating its batches."""
    world = simpy.Environment()
    cores = simpy.Resource(world, plant.worker_cores)
    database = simpy.Resource(world, plant.database_cores) if plant.database_cores else cores
    messages: simpy.Store = simpy.Store(world, capacity=max(16, 2 * plant.workers))
    finished: list[float] = []

    def use(resource: simpy.Resource, seconds: float) -> Generator[simpy.Event, Any, None]:
        with resource.request() as turn:
            yield turn
            yield world.timeout(seconds)

    def relay() -> Generator[simpy.Event, Any, None]:
        while True:
            # What PostgreSQL does for a relay is in `costs.database`, with the workers' share.
            yield from use(cores, BATCH * (costs.relay + costs.broker))
            yield messages.put(None)

    def worker() -> Generator[simpy.Event, Any, None]:
        while True:
            yield messages.get()
            yield from use(cores, BATCH * costs.parent)
            # Python and PostgreSQL take turns, a statement each.
            for _ in range(ROUND_TRIPS):
                yield from use(cores, BATCH * costs.worker / ROUND_TRIPS)
                yield world.timeout(plant.network_seconds)
                yield from use(database, BATCH * costs.database / ROUND_TRIPS)
            finished.append(world.now)

    for _ in range(plant.relays):
        world.process(relay())
    for _ in range(plant.workers):
        world.process(worker())
    while len(finished) < BATCHES:
        world.step()
    warm = BATCHES // 6
    return BATCH * (len(finished) - 1 - warm) / (finished[-1] - finished[warm])


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a rate needs."""

    jobs_per_second: float
    worker_machines: int
    relays: int
    databases: int
    spanning: float
    """Share of orders whose lines lie in more than one database."""
    log_megabytes_per_second: float
    modelled: float
    """Jobs a second that the model makes of one database's share of all that, times the shares."""


def need(costs: Costs, jobs_per_second: float) -> Need:
    """Plan for a rate: machines of workers, relays, and databases once one is not enough."""
    databases = max(
        ceil(jobs_per_second * costs.database / (DATABASE_CORES * BUSY)),
        ceil(jobs_per_second * costs.log_bytes / LOG_BYTES),
    )
    share = jobs_per_second / databases
    by_workers = costs.worker + costs.parent + costs.relay + costs.broker
    machines = ceil(share * by_workers / (WORKER_CORES * BUSY))
    relays = ceil(share * (costs.relay + costs.broker) / BUSY)
    # Who waits for a database needs more processes than cores.
    plant = Plant(
        workers=2 * WORKER_CORES * machines,
        worker_cores=WORKER_CORES * machines,
        database_cores=DATABASE_CORES,
        relays=relays,
        network_seconds=NETWORK_SECONDS,
    )
    return Need(
        jobs_per_second=jobs_per_second,
        worker_machines=machines * databases,
        relays=relays * databases,
        databases=databases,
        spanning=spanning(databases),
        log_megabytes_per_second=jobs_per_second * costs.log_bytes / 1e6,
        modelled=databases * rate(costs, plant),
    )


def spanning(databases: int, lines: tuple[int, ...] = (1, 2, 3)) -> float:
    """Return the share of orders that span databases, products being spread by chance."""
    return 1 - sum((1 / databases) ** (each - 1) for each in lines) / len(lines)


def main() -> None:
    """Measure, fit, check and predict."""
    parser = argparse.ArgumentParser(prog="benchmarks.scaling", description=__doc__)
    parser.add_argument("--orders", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(".tallyman/bench"))
    options = parser.parse_args()
    console = Console()
    costs, measured, free = measure(
        Load(orders=options.orders), workers=WORKERS, rounds=options.rounds
    )
    machine = Plant(workers=max(WORKERS), worker_cores=CORES, database_cores=0)
    # What others on this machine took meanwhile, the model does not get either.
    modelled = {
        workers: rate(costs.times(CORES / free[workers]), replace(machine, workers=workers))
        for workers in WORKERS
    }
    needs = [need(costs, factor * rate(costs, machine)) for factor in FACTORS]
    console.print(_costs_table(costs))
    console.print(_check_table(measured, modelled, free))
    console.print(_needs_table(needs))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "scaling.json").write_text(
        json.dumps(
            {
                "costs": asdict(costs),
                "measured": measured,
                "modelled": modelled,
                "free_cores": free,
                "needs": [asdict(each) for each in needs],
            },
            indent=2,
        )
        + "\n"
    )


def _costs_table(costs: Costs) -> Table:
    table = Table(title="What a job costs, measured")
    table.add_column("part")
    table.add_column("µs of a processor", justify="right")
    for name, cost in asdict(costs).items():
        if name != "log_bytes":
            table.add_row(name, f"{1e6 * cost:,.0f}")
    table.add_row("bytes of write-ahead log", f"{costs.log_bytes:,.0f}")
    return table


def _check_table(
    measured: dict[int, float], modelled: dict[int, float], free: dict[int, float]
) -> Table:
    table = Table(title="One machine, jobs a second")
    for column in ("worker processes", "cores free", "measured", "modelled", "modelled / measured"):
        table.add_column(column, justify="right")
    for workers, found in measured.items():
        table.add_row(
            str(workers),
            f"{free[workers]:.1f}",
            f"{found:,.0f}",
            f"{modelled[workers]:,.0f}",
            f"{modelled[workers] / found:.2f}",
        )
    return table


def _needs_table(needs: list[Need]) -> Table:
    table = Table(
        title=f"What more needs: machines of {WORKER_CORES} cores for workers,"
        f" of {DATABASE_CORES} for PostgreSQL, {BUSY:.0%} busy"
    )
    for column in (
        "jobs/s",
        "worker machines",
        "relays",
        "databases",
        "orders across databases",
        "log MB/s",
        "modelled jobs/s",
    ):
        table.add_column(column, justify="right")
    for each in needs:
        table.add_row(
            f"{each.jobs_per_second:,.0f}",
            f"{each.worker_machines:,}",
            f"{each.relays:,}",
            f"{each.databases:,}",
            f"{each.spanning:.0%}",
            f"{each.log_megabytes_per_second:,.0f}",
            f"{each.modelled:,.0f}",
        )
    return table


if __name__ == "__main__":
    main()
