"""Switch off one thing after the other and print the table."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from adapters.embedded.servers import EmbeddedServers
from tests.chaos.mutations.playing import Result, Server, play


def main() -> None:
    """Switch off one thing after the other and print the table."""
    console = Console(width=150)
    with tempfile.TemporaryDirectory(prefix="tallyman-mutations-") as name:
        servers = EmbeddedServers(Path(name))
        try:
            addresses = servers.start()
            server = Server(Path(name), url=addresses.database_url, broker_url=addresses.broker_url)
            controls, results = play(server)
        finally:
            servers.remove_data()
    console.print(_table([*controls, *results]))
    unwell = [result.load for result in controls if result.noticed]
    unnoticed = [result.name for result in results if not result.noticed]
    console.print(f"{len(results) - len(unnoticed)} of {len(results)} mutations were noticed")
    if unwell or unnoticed:
        sys.exit(f"unnoticed: {unnoticed}; loads that do not end well alone: {unwell}")


def _table(results: Sequence[Result]) -> Table:
    """Show what was noticed of each."""
    found = Table(title="What was switched off, and what was noticed of it")
    for column in ("switched off", "load", "noticed", "seconds"):
        found.add_column(column, overflow="fold")
    for result in results:
        first = result.noticed[0] if result.noticed else "nothing"
        more = f" and {len(result.noticed) - 1} more" if len(result.noticed) > 1 else ""
        found.add_row(result.name, result.load, f"{first}{more}", f"{result.seconds:.1f}")
    return found


if __name__ == "__main__":
    main()
