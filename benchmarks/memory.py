"""What Tallyman's processes take: memory at rest and after work, and the time of a start.

python -m benchmarks.memory [--orders 200000] [--processes 4]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import redis
from rich.console import Console
from rich.table import Table

from adapters.broker import EPOCH_KEY
from adapters.embedded.servers import EmbeddedServers
from benchmarks.celery_contenders import KIND, submissions
from benchmarks.orders import Load
from benchmarks.stack import process, wait_until
from benchmarks.stage import Stage, check, connected, count
from worker.producer import Producer

MEGABYTE = 1 << 20
STARTS = 5
MAIN = "worker.command.main"

COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "import typer": ("-c", "import typer"),
    "tallyman --help": ("-m", MAIN, "--help"),
    "import celery": ("-c", "import celery"),
    "import worker": ("-c", "import worker"),
    "import worker.app": ("-c", "import worker.app"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The processes of Tallyman that are measured."""

    processes: dict[str, psutil.Process]

    def memory(self) -> dict[str, float]:
        """Return the resident megabytes of each process; of a worker's children, of the largest."""
        found: dict[str, float] = {}
        for name, running in self.processes.items():
            found[name] = _resident(running)
            if children := running.children():
                found[f"{name}, largest child"] = max(_resident(child) for child in children)
        return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__)
    parser.add_argument("--orders", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path(".tallyman/bench"))
    options = parser.parse_args()
    console = Console()
    starts = _starts()
    with tempfile.TemporaryDirectory(prefix="tallyman-bench-") as folder:
        embedded = EmbeddedServers(Path(folder))
        try:
            stage = Stage(servers=embedded.start(), logs=Path(folder), processes=options.processes)
            rest, after = _memory(stage, Load(orders=options.orders))
        finally:
            embedded.remove_data()
    console.print(
        _table(
            "Resident memory, MB",
            ["process", "at rest", f"after {options.orders:,} jobs"],
            [[name, f"{rest[name]:.0f}", f"{after[name]:.0f}"] for name in rest],
        )
    )
    console.print(
        _table(
            "Time of a start",
            ["what", "seconds"],
            [[name, f"{seconds:.2f}"] for name, seconds in starts.items()],
        )
    )
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "memory.json").write_text(
        json.dumps({"rest_mb": rest, "after_mb": after, "start_seconds": starts}, indent=2) + "\n"
    )


def _memory(stage: Stage, load: Load) -> tuple[dict[str, float], dict[str, float]]:
    with stage.database(load) as url, _running(stage, url) as crew:
        rest = crew.memory()
        with Producer.at(url) as producer:
            producer.submit_many(submissions(load))
        # Beat has jobs of its own.
        done = f"SELECT count(*) FROM job WHERE kind = '{KIND}' AND state = 'succeeded'"
        with connected(url) as connection:
            wait_until(lambda: count(connection, done) == load.orders, seconds=1_800, every=1)
        check(url, load)
        return rest, crew.memory()


@contextmanager
def _running(stage: Stage, url: str) -> Iterator[Crew]:
    broker: redis.Redis = stage.empty_broker()
    environment = stage.environment(url)
    with (
        process(MAIN, "worker", environment=environment, log=stage.log("worker")) as worker,
        process(MAIN, "relay", environment=environment, log=stage.log("relay")) as relay,
        process(MAIN, "beat", environment=environment, log=stage.log("beat")) as beat,
    ):
        started = psutil.Process(worker.pid)
        wait_until(
            lambda: len(started.children()) >= stage.processes and broker.exists(EPOCH_KEY),
            seconds=60,
        )
        # A child has built what it runs jobs with a moment after its fork.
        time.sleep(3)
        yield Crew(
            processes={
                "worker": started,
                "relay": psutil.Process(relay.pid),
                "beat": psutil.Process(beat.pid),
            }
        )


def _resident(running: psutil.Process) -> float:
    return float(running.memory_info().rss) / MEGABYTE


def _starts() -> dict[str, float]:
    """Start each command in turn, several times; return the median seconds of each."""
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(STARTS):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            found[name].append(time.perf_counter() - began)
    return {name: median(seconds) for name, seconds in found.items()}


def _table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    main()
