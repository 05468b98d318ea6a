"""The ledger's metrics: collected when they are asked for, and answered within a second."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from adapters.postgres.engine import create
from adapters.postgres.ledger_figures import Census, Glance, LedgerFigures
from worker.metrics import ledger_catalogue as metrics
from worker.metrics.catalogue import family
from worker.metrics.ledger_families import of_census, of_glance, up
from worker.metrics.looks import Looks

ANSWER_SECONDS = 0.8
"""How long a scrape waits for figures: then it tells what it knows, and that they are late."""
GLANCE_SECONDS = 1.0
CENSUS_SECONDS = 5.0


@dataclass(kw_only=True, eq=False)
class LedgerCollector(Collector):
    """Tells how the ledger stands; what is told of it may be a few seconds old."""

    glances: Looks[Glance]
    censuses: Looks[Census]
    figures: tuple[LedgerFigures, ...]
    most_waiting: int
    has_stream: bool
    """Whether events are relayed anywhere."""

    @classmethod
    def at(cls, database_url: str, *, most_waiting: int, has_stream: bool) -> "LedgerCollector":
        """Build one for a database; nothing is asked yet."""

        def figures(what: str, *, seconds: int) -> LedgerFigures:
            return LedgerFigures(
                create(
                    database_url,
                    application=f"tallyman {what}",
                    lock_timeout_ms=1_000,
                    statement_timeout_ms=seconds * 1_000,
                    by_index=True,
                )
            )

        glancing, counting = figures("glance", seconds=3), figures("census", seconds=30)
        return cls(
            glances=Looks(name="glance", look=glancing.glance, every=GLANCE_SECONDS),
            censuses=Looks(name="census", look=counting.census, every=CENSUS_SECONDS),
            figures=(glancing, counting),
            most_waiting=most_waiting,
            has_stream=has_stream,
        )

    def close(self) -> None:
        """Let go of PostgreSQL."""
        for each in self.figures:
            each.close()

    def describe(self) -> Iterator[Metric]:
        """Name nothing: to be registered must not ask the database."""
        return iter(())

    def objection(self) -> str | None:
        """Say why there is nothing to tell; None where there is."""
        found = self.glances.latest(patience=ANSWER_SECONDS)
        if found is None or not found.is_current:
            return "PostgreSQL does not answer within a second"
        return None

    def collect(self) -> Iterator[Metric]:
        until = time.monotonic() + ANSWER_SECONDS
        glance = self.glances.latest(patience=ANSWER_SECONDS)
        parts = {"db": glance is not None and glance.is_current}
        ages = {}
        # Where PostgreSQL does not answer, nobody waits for it again.
        patience = until - time.monotonic() if parts["db"] else 0.0
        census = self.censuses.latest(patience=patience)
        if glance is not None:
            ages["glance"] = glance.age_seconds
            if glance.is_current:
                parts |= up(glance.value)
            yield from of_glance(glance.value, most_waiting=self.most_waiting)
        if census is not None:
            ages["census"] = census.age_seconds
            yield from of_census(
                census.value,
                settings=glance.value.settings if glance else {},
                has_stream=self.has_stream,
            )
        yield family(metrics.UP, (((part,), float(is_up)) for part, is_up in parts.items()))
        yield family(metrics.FIGURES_AGE, (((name,), age) for name, age in ages.items()))
