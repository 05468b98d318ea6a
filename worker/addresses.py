"""Where the database and the broker are: as set, or the embedded servers that run now."""

from dataclasses import dataclass

from adapters.embedded.servers import EmbeddedServers
from worker.settings import Settings


class NotRunning(Exception):
    """No address is set and no embedded server runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Resolved addresses; they hold passwords."""

    database_url: str
    broker_url: str
    mirror_url: str | None
    """Redis for the results of stock clients; None where there is none."""


def resolve(settings: Settings) -> Addresses:
    """Return the addresses that are set, and those of running embedded servers for the rest.

    Raises:
        NotRunning: An address is not set and its embedded server does not run.
    """
    servers = EmbeddedServers(settings.data_folder)
    database_url = settings.database_url.get_secret_value() if settings.database_url else None
    broker_url = settings.broker_url.get_secret_value() if settings.broker_url else None
    if database_url is None:
        if not servers.postgres.running():
            raise NotRunning(_advice("TALLYMAN_DATABASE_URL", "PostgreSQL", settings))
        database_url = servers.postgres.url()
    if broker_url is None:
        if not servers.valkey.running():
            raise NotRunning(_advice("TALLYMAN_BROKER_URL", "Valkey", settings))
        broker_url = servers.valkey.url()
    mirror_url = settings.mirror_url.get_secret_value() if settings.mirror_url else None
    if mirror_url is None and broker_url.startswith(("redis://", "rediss://")):
        mirror_url = broker_url
    return Addresses(database_url=database_url, broker_url=broker_url, mirror_url=mirror_url)


def _advice(variable: str, server: str, settings: Settings) -> str:
    return (
        f"{variable} is not set and no embedded {server} runs in {settings.data_folder}:"
        " start one with `tallyman up`, or set the variable"
    )
