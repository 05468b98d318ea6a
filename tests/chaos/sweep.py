"""The sweep: a process dies at every boundary, in the middle of jobs of every family.

`python -m tests.chaos.sweep` prints the table, and ends with 1 where anything went wrong. Each
death is that of a process of its own, which sends itself SIGKILL the first, or the second, time
that it comes to the boundary; another goes on where it was, and the checker judges them all.
"""

import logging
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
import structlog
from rich.console import Console
from rich.table import Table

from adapters.embedded.servers import EmbeddedServers
from adapters.postgres import schema
from adapters.postgres.engine import create
from domain.imports import taking
from tests.chaos import audit_trail
from tests.chaos.boundaries import BOUNDARIES
from tests.chaos.checker import check
from tests.chaos.families import FAMILIES, Family
from tests.chaos.forked import as_child
from tests.chaos.stand import Stand, opened

CHUNK = 4
"""Rows of a chunk of a file."""
VISITS = (1, 2, 3)
"""Each boundary is deadly at its first visit, in another run at its second, and so on."""


@dataclass(slots=True, kw_only=True)
class Death:
    """A process that died at a boundary, and what is wrong since."""

    boundary: str
    family: str
    visit: int
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Part of the ids of all that the process did."""
        return f"{self.family}-{self.boundary}-{self.visit}".replace(".", "-").replace(" ", "-")

    def __str__(self) -> str:
        told = "; ".join(self.problems) or "survived"
        return f"{self.family} at {self.boundary}, visit {self.visit}: {told}"


@dataclass(slots=True, kw_only=True)
class Sweep:
    """Goes through all boundaries of all families on one database, whose history grows."""

    url: str
    broker_url: str
    folder: Path
    visits: Sequence[int] = VISITS
    deaths: list[Death] = field(default_factory=list)

    def run(self, family: Family) -> None:
        """Let a process die at each boundary that the family comes to, as often as is asked for."""
        come_to = self._boundaries(family)
        deaths = [
            Death(boundary=boundary, family=family.name, visit=visit)
            for boundary in BOUNDARIES
            for visit in sorted({*self.visits, *family.later})
            if come_to[boundary] >= visit
        ]
        for death in deaths:
            self._die(family, death)
        self.deaths += deaths
        self._judge(deaths)

    def _boundaries(self, family: Family) -> Counter[str]:
        """Count how often the family comes to each boundary when nobody dies."""
        visits: Counter[str] = Counter()
        name = f"{family.name}-alive".replace(" ", "-")
        with self._stand(name) as stand:
            family.prepare(stand)
        with self._stand(name, reached=lambda boundary: visits.update([boundary])) as stand:
            family.act(stand)
            stand.finish()
        return visits

    def _die(self, family: Family, death: Death) -> None:
        with self._stand(death.name) as stand:
            family.prepare(stand)
        died = _dies(lambda: self._do(family, death))
        assert died, f"{death.name}: the process lived on"
        # Others take over: what was delivered to the dead is delivered again.
        with self._stand(death.name, is_successor=True) as stand:
            family.act(stand)
            stand.finish()

    def _do(self, family: Family, death: Death) -> None:
        with self._stand(death.name, reached=_killer(death)) as stand:
            family.act(stand)
            stand.finish()

    def _judge(self, deaths: Sequence[Death]) -> None:
        """Ask the checker; what is wrong is the fault of whom it names, or of all."""
        known = {problem for death in self.deaths for problem in death.problems}
        for problem in check(self.folder, self.url, stream_url=self.broker_url).problems:
            if problem in known:
                continue
            named = [death for death in deaths if death.name in problem]
            for death in named or deaths:
                death.problems.append(problem)

    @contextmanager
    def _stand(
        self,
        name: str,
        *,
        reached: Callable[[str], None] = lambda _: None,
        is_successor: bool = False,
    ) -> Iterator[Stand]:
        with opened(
            self.url,
            broker_url=self.broker_url,
            history=self.folder / f"{name}.jsonl",
            name=name,
            reached=reached,
            folder=self.folder / "files" / name,
            is_successor=is_successor,
        ) as stand:
            yield stand


def _killer(death: Death) -> Callable[[str], None]:
    visits = 0

    def reached(boundary: str) -> None:
        nonlocal visits
        visits += boundary == death.boundary
        if visits == death.visit and boundary == death.boundary:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def _dies(action: Callable[[], None]) -> bool:
    """Run an action in a process of its own; tell whether SIGKILL ended it.

    Raises:
        AssertionError: It failed in another way.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        as_child(action)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return True
    assert os.WEXITSTATUS(status) == 0, "the process failed before it could die: see above"
    return False


def sweep(
    url: str, broker_url: str, folder: Path, *, visits: Sequence[int] = VISITS
) -> list[Death]:
    """Let processes die everywhere, on a fresh, migrated database; return their deaths."""
    audit_trail.lay(url)
    with redis.Redis.from_url(broker_url) as client:
        client.flushall()
    going = Sweep(url=url, broker_url=broker_url, folder=folder, visits=visits)
    with _small_chunks():
        for family in FAMILIES.values():
            going.run(family)
    return going.deaths


@contextmanager
def _small_chunks() -> Iterator[None]:
    """Have files imported a few rows at a time, so that a small one has many chunks."""
    rows = vars(taking)["ROWS"]
    vars(taking)["ROWS"] = CHUNK
    try:
        yield
    finally:
        vars(taking)["ROWS"] = rows


def table(deaths: Iterable[Death]) -> Table:
    """Show how many died where, and were survived."""
    shown: dict[tuple[str, str], list[Death]] = {}
    for death in deaths:
        shown.setdefault((death.family, death.boundary), []).append(death)
    found = Table(title="Deaths that were survived; - is where a family never comes")
    found.add_column("family")
    for number, _ in enumerate(BOUNDARIES, start=1):
        found.add_column(str(number), justify="right")
    for family in FAMILIES:
        found.add_row(
            family, *(_shown(shown.get((family, boundary), ())) for boundary in BOUNDARIES)
        )
    return found


def _shown(deaths: Sequence[Death]) -> str:
    failed = sum(bool(death.problems) for death in deaths)
    if failed:
        return f"{failed} FAILED"
    return str(len(deaths)) if deaths else "-"


def main() -> None:
    """Go through all cells and print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="tallyman-sweep-") as name:
        servers = EmbeddedServers(Path(name))
        try:
            addresses = servers.start()
            engine = create(addresses.database_url)
            schema.upgrade(engine)
            engine.dispose()
            history = Path(name) / "history"
            deaths = sweep(addresses.database_url, addresses.broker_url, history)
        finally:
            servers.remove_data()
    console.print(table(deaths))
    for number, (boundary, meaning) in enumerate(BOUNDARIES.items(), start=1):
        console.print(f"{number:>2}  {boundary}: {meaning}", highlight=False)
    failed = [death for death in deaths if death.problems]
    console.print(f"{len(deaths)} deaths, {len(failed)} of them not survived")
    for death in failed:
        console.print(str(death), markup=False)
    if failed or {death.boundary for death in deaths} != set(BOUNDARIES):
        sys.exit(1)


if __name__ == "__main__":
    main()
