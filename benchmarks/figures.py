"""What came of a run: tables for people, JSON for machines, a plot for the documentation."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import altair as alt
import psycopg
from rich.table import Table

from benchmarks.accepting import Accepted, percentile
from benchmarks.contenders import BASELINE, CONTENDERS
from benchmarks.latency import Latency
from benchmarks.stack import plain
from benchmarks.stage import Stage

DURABILITY = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that was measured."""

    machine: dict[str, Any]
    rates: dict[str, list[float]] = field(default_factory=dict)
    """Jobs a second of each contender, round by round."""
    latency: dict[str, Latency] = field(default_factory=dict)
    accepted: list[Accepted] = field(default_factory=list)

    def ratios(self, name: str) -> list[float]:
        """Return how many times the baseline a contender did, in each round."""
        baseline = self.rates.get(BASELINE, [])
        return [mine / theirs for mine, theirs in zip(self.rates[name], baseline, strict=False)]

    def tables(self) -> list[Table]:
        """Return what there is to show."""
        return [
            *([self._rates_table()] if self.rates else []),
            *([self._latency_table()] if self.latency else []),
            *([_accepted_table(self.accepted)] if self.accepted else []),
        ]

    def write(self, folder: Path) -> None:
        """Write `figures.json` and, where throughput was measured, `throughput.svg`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "figures.json").write_text(json.dumps(self._plain(), indent=2) + "\n")
        if self.rates:
            self._plot().save(str(folder / "throughput.svg"))

    def _plain(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "throughput": {
                name: {"jobs_per_second": rates, "median": median(rates), "x": self.ratios(name)}
                for name, rates in self.rates.items()
            },
            "latency": {
                name: {
                    "most_per_second": found.most,
                    **{
                        when: {
                            "rate_per_second": paced.rate,
                            "p50_ms": paced.percentile(50),
                            "p99_ms": paced.percentile(99),
                        }
                        for when, paced in (("half", found.half), ("common", found.common))
                    },
                }
                for name, found in self.latency.items()
            },
            "accept": [asdict(accepted) for accepted in self.accepted],
        }

    def _rates_table(self) -> Table:
        table = _table(
            "Jobs a second, and how many times stock Celery with a no-op in the same round",
            ["contender", "median", "least", "most", "times", "least", "most"],
        )
        for name, rates in self.rates.items():
            ratios = self.ratios(name)
            table.add_row(
                _title(name),
                *(f"{rate:,.0f}" for rate in _spread(rates)),
                *(f"{ratio:.2f}" for ratio in _spread(ratios) if ratios),
            )
        return table

    def _latency_table(self) -> Table:
        table = _table(
            "Milliseconds from handing over to the committed result,"
            " at half of the most jobs a second and at one rate for all",
            ["contender", "most", *2 * ["at", "p50", "p99"]],
        )
        for name, found in self.latency.items():
            table.add_row(
                _title(name),
                f"{found.most:,.0f}",
                *(
                    figure
                    for paced in (found.half, found.common)
                    for figure in (
                        f"{paced.rate:,.0f}",
                        f"{paced.percentile(50):,.1f}",
                        f"{paced.percentile(99):,.1f}",
                    )
                ),
            )
        return table

    def _plot(self) -> alt.TopLevelMixin:
        rows = [
            {
                "contender": _title(name),
                "median": median(rates),
                "least": min(rates),
                "most": max(rates),
                "label": f"{median(rates):,.0f}",
                "side": "Tallyman" if name.startswith("tallyman") else "others",
            }
            for name, rates in self.rates.items()
        ]
        names = alt.Y("contender:N", sort=None, title=None, axis=alt.Axis(labelLimit=400))
        base = alt.Chart(alt.Data(values=rows)).encode(y=names)
        bars = base.mark_bar().encode(
            x=alt.X("median:Q", title="orders a second (median, least to most)"),
            color=alt.Color("side:N", legend=None),
        )
        spread = base.mark_rule(strokeWidth=2).encode(x="least:Q", x2="most:Q")
        labels = base.mark_text(align="left", dx=6).encode(x="most:Q", text="label:N")
        layers = alt.layer(bars, spread, labels)
        return layers.properties(width=560, height=34 * len(rows))


def machine(stage: Stage) -> dict[str, Any]:
    """Return what figures depend on."""
    with psycopg.connect(plain(stage.servers.database_url)) as connection:
        settings = {
            name: (connection.execute(f"SHOW {name}".encode()).fetchone() or [None])[0]
            for name in DURABILITY
        }
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "postgresql": settings,
        "valkey": {"appendonly": "yes", "appendfsync": "everysec"},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _accepted_table(accepted: Sequence[Accepted]) -> Table:
    table = _table(
        "Accepting jobs, beside the same rows written bare", ["what", "Tallyman", "bare", "times"]
    )
    many = median(each.many for each in accepted)
    bare_many = median(each.bare_many for each in accepted)
    table.add_row(
        "submit_many, COPY: jobs/s", f"{many:,.0f}", f"{bare_many:,.0f}", f"{many / bare_many:.2f}"
    )
    for percent in (50, 99):
        mine = median(percentile(each.single, percent) for each in accepted)
        bare = median(percentile(each.bare_single, percent) for each in accepted)
        table.add_row(
            f"submit, INSERT: p{percent} ms", f"{mine:.2f}", f"{bare:.2f}", f"{mine / bare:.2f}"
        )
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _spread(values: Sequence[float]) -> tuple[float, ...]:
    return (median(values), min(values), max(values)) if values else ()


def _title(name: str) -> str:
    return TITLES.get(name, name)


TITLES: Mapping[str, str] = {contender.name: contender.title for contender in CONTENDERS}
