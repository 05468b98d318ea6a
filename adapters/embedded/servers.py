"""PostgreSQL and Valkey together: what a run needs where no URL is set."""

from dataclasses import dataclass, field
from pathlib import Path

from adapters.embedded.postgres import PostgresServer
from adapters.embedded.valkey import ValkeyServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the two servers listen, passwords included, on loopback alone."""

    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)


class EmbeddedServers:
    """The two servers of one folder, which outlive the process that started them.

    As a context manager they run inside the block, which is given their addresses, and are
    stopped at its end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = PostgresServer(folder / "postgres")
        self.valkey = ValkeyServer(folder / "valkey")

    def start(self) -> Addresses:
        """Start what does not run yet, whatever a killed run left, and return once both answer.

        Raises:
            EmbeddedServerError: one has no programs to run, or ended, or stayed silent.
        """
        self.postgres.start()
        self.valkey.start()
        return self._addresses()

    def addresses(self) -> Addresses | None:
        """Give the addresses if both servers run now."""
        return self._addresses() if self.postgres.running() and self.valkey.running() else None

    def stop(self) -> None:
        """Stop what runs and wait until it is gone.

        Raises:
            ServerDidNotStop: one still runs after a minute.
        """
        self.valkey.stop()
        self.postgres.stop()

    def remove_data(self) -> None:
        """Stop both servers and delete their data, which for root may lie outside the folder."""
        self.valkey.remove_data()
        self.postgres.remove_data()

    def __enter__(self) -> Addresses:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _addresses(self) -> Addresses:
        return Addresses(database_url=self.postgres.url(), broker_url=self.valkey.url())
