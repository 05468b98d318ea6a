"""Kill each contender's worker under load, count the effects of every job, and print a table.

python -m benchmarks.deaths [--kills 20] [--seed 7] [--json FILE]
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from adapters.embedded.servers import Addresses, EmbeddedServers
from adapters.postgres import schema
from adapters.postgres.engine import create
from benchmarks.deaths.campaign import Campaign, Toll
from benchmarks.deaths.contenders import CONTENDERS, Place, furnish


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.deaths", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    console = Console()
    tolls = []
    with tempfile.TemporaryDirectory(prefix="tallyman-deaths-") as folder:
        embedded = EmbeddedServers(Path(folder))
        try:
            servers = embedded.start()
            for number, contender in enumerate(CONTENDERS):
                place = _place(servers, f"deaths_{number}")
                campaign = Campaign(
                    place=place, logs=Path(folder), kills=options.kills, seed=options.seed
                )
                toll = campaign.against(contender(place=place))
                console.print(f"{toll.name}: {toll.seconds:.0f} seconds")
                tolls.append(toll)
        finally:
            embedded.remove_data()
    console.print(_table(tolls))
    if options.json:
        options.json.write_text(json.dumps([asdict(toll) for toll in tolls], indent=2) + "\n")


def _place(servers: Addresses, database: str) -> Place:
    """Give a fresh database with all that the contenders work on."""
    plain = servers.database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{database}"'.encode())
    url = f"{servers.database_url.rpartition('/')[0]}/{database}"
    engine = create(url)
    schema.upgrade(engine)
    engine.dispose()
    place = Place(database_url=url, broker_url=servers.broker_url)
    furnish(place)
    return place


def _table(tolls: Sequence[Toll]) -> Table:
    table = Table(title="kill -9 of the whole worker, under load")
    for column in ("contender", "jobs sent", "kills", "lost", "done twice", "seconds"):
        table.add_column(column, justify="left" if column == "contender" else "right")
    for toll in tolls:
        table.add_row(
            toll.name + ("" if toll.is_drained else " (not drained)"),
            f"{toll.sent:,}",
            str(toll.kills),
            str(toll.lost),
            str(toll.doubled),
            f"{toll.seconds:.0f}",
        )
    return table


if __name__ == "__main__":
    main()
