"""Run the contenders in turn, several times, and print medians and ratios.

python -m benchmarks [--only NAME]… [--orders 80000] [--rounds 3] [--processes 4] [--output FOLDER]
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from adapters.embedded.servers import EmbeddedServers
from benchmarks import accepting, figures, latency
from benchmarks.contenders import BASELINE, CONTENDERS, Contender
from benchmarks.figures import Figures
from benchmarks.stage import Stage

LATENCY = "latency"
ACCEPT = "accept"
NAMES = (*(contender.name for contender in CONTENDERS), LATENCY, ACCEPT)


def main() -> None:
    """Measure, print and write."""
    options = _options()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="tallyman-bench-") as folder:
        embedded = EmbeddedServers(Path(folder))
        try:
            stage = Stage(servers=embedded.start(), logs=Path(folder), processes=options.processes)
            found = Figures(machine=figures.machine(stage))
            chosen = [contender for contender in CONTENDERS if contender.name in options.only]
            for number in range(options.rounds):
                _round(stage, chosen, found, console, number=number, orders=options.orders)
                if ACCEPT in options.only:
                    found.accepted.append(accepting.measure(stage))
            if LATENCY in options.only:
                common = None
                for name in latency.RUNNERS:
                    console.print(f"latency: {name}")
                    found.latency[name] = latency.measure(stage, name, common=common)
                    common = found.latency[BASELINE].common.rate
        finally:
            embedded.remove_data()
    for table in found.tables():
        console.print(table)
    found.write(options.output)
    console.print(f"written to {options.output}")


def _round(
    stage: Stage,
    chosen: Sequence[Contender],
    found: Figures,
    console: Console,
    *,
    number: int,
    orders: int,
) -> None:
    for contender in chosen:
        timing = contender.run(stage, contender.load(orders))
        found.rates.setdefault(contender.name, []).append(timing.rate)
        console.print(
            f"round {number + 1}: {contender.title}: {timing.jobs:,} orders"
            f" in {timing.seconds:.2f} s, {timing.rate:,.0f}/s (load {os.getloadavg()[0]:.1f})",
            highlight=False,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help=f"leave out all others but {BASELINE}; one or more of: {', '.join(NAMES)}",
    )
    parser.add_argument("--orders", type=int, default=80_000, help="of a round, for the fastest")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=4, help="of each contender's workers")
    parser.add_argument("--output", type=Path, default=Path(".tallyman/bench"))
    options = parser.parse_args()
    wanted = [name for names in options.only or [] for name in names.replace(",", " ").split()]
    if unknown := sorted(set(wanted) - set(NAMES)):
        parser.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    throughput = set(wanted) - {LATENCY, ACCEPT}
    options.only = {*wanted, *({BASELINE} if throughput else ())} or set(NAMES)
    return options


if __name__ == "__main__":
    main()
