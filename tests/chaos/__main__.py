"""Break everything, under load, and judge what comes of it: `python -m tests.chaos --help`.

Brings about one fault at a time, which tells how long each takes to overcome; then many at once,
for each seed; then sweeps over all crash points, and sees whether mutations of the product would
be noticed. Ends with 1 where any promise was broken.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from tests.chaos.arena import ROOT
from tests.chaos.campaign import Outcome, run
from tests.chaos.faults.fault import Lane
from tests.chaos.nemesis import Plan
from tests.chaos.report import show

SEEDS = (1, 2, 3)
PAUSES = {Lane.PROCESSES: (0.3, 2.0), Lane.FREEZES: (1.0, 6.0), Lane.SERVERS: (0.3, 2.0)}
BESIDES = ("tests.chaos.sweep", "tests.chaos.mutations")
"""Other parts of the suite, each a program that ends with 1 where something is wrong."""


def main() -> None:
    """Run it all and print what came of it."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--seconds", type=float, default=120.0, help="of faults, for each seed")
    parser.add_argument("--pause", type=float, default=0.03, help="between actions of a client")
    parser.add_argument("--evidence", type=Path, help="a folder for logs and histories")
    parser.add_argument("--nemesis-only", action="store_true", help="leave out the rest")
    options = parser.parse_args()
    # Servers, processes and a mounted disk are to be gone however it ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = options.evidence or Path(tempfile.mkdtemp(prefix="tallyman-chaos-"))
    console = Console()

    def play(name: str, plan: Plan) -> Outcome:
        console.print(f"{name} …")
        outcome = run(plan, name=name, folder=folder / name.replace(" ", "-"), pause=options.pause)
        verdict = outcome.verdict
        console.print(
            f"{name}: {sum(verdict.faults.values())} faults, {verdict.accepted:,} jobs,"
            f" {len(verdict.problems)} problems"
        )
        return outcome

    alone = play("alone", Plan(seed=options.seed[0], pauses=PAUSES, alone=True))
    together = [
        play(f"seed {seed}", Plan(seed=seed, seconds=options.seconds, pauses=PAUSES))
        for seed in options.seed
    ]
    console.print(show(alone, together))
    outcomes = [alone, *together]
    (folder / "outcomes.json").write_text(
        json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n"
    )
    failed = [outcome.name for outcome in outcomes if not outcome.verdict.is_good]
    if not options.nemesis_only:
        failed += [module for module in BESIDES if not _succeeds(module, console)]
    console.print(f"evidence: {folder}")
    if failed:
        sys.exit(f"not as promised: {', '.join(failed)}")


def _succeeds(module: str, console: Console) -> bool:
    if find_spec(module) is None:
        console.print(f"{module} is not there and was left out")
        return True
    began = time.monotonic()
    code = subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=False).returncode
    console.print(f"{module} ended with {code} after {time.monotonic() - began:.0f} s")
    return code == 0


if __name__ == "__main__":
    main()
