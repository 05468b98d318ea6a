"""Where the database and the broker are: as set, or the embedded servers that run now."""

from dataclasses import dataclass, field

from pydantic import SecretStr

from adapters.embedded.postgres import PostgresServer
from adapters.embedded.servers import EmbeddedServers
from adapters.embedded.valkey import ValkeyServer
from worker.settings import Settings


class NotRunning(Exception):
    """No address is set and no embedded server runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Resolved addresses; they hold passwords, and are not told by `repr`."""

    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    mirror_url: str | None = field(repr=False)
    """Redis for the results of stock clients; None where there is none."""


def resolve(settings: Settings) -> Addresses:
    """Return the addresses that are set, and those of running embedded servers for the rest.

    Raises:
        NotRunning: An address is not set and its embedded server does not run.
    """
    broker_url = _resolved(
        settings.broker_url,
        EmbeddedServers(settings.data_folder).valkey,
        "TALLYMAN_BROKER_URL: no broker is set and no embedded Valkey",
        settings,
    )
    mirror_url = settings.mirror_url.get_secret_value() if settings.mirror_url else None
    if mirror_url is None and broker_url.startswith(("redis://", "rediss://")):
        mirror_url = broker_url
    return Addresses(
        database_url=database_url(settings), broker_url=broker_url, mirror_url=mirror_url
    )


def database_url(settings: Settings) -> str:
    """Return the address of the database alone: who asks or submits needs no broker.

    Raises:
        NotRunning: It is not set and its embedded server does not run.
    """
    return _resolved(
        settings.database_url,
        EmbeddedServers(settings.data_folder).postgres,
        "TALLYMAN_DATABASE_URL: no database is set and no embedded PostgreSQL",
        settings,
    )


def _resolved(
    given: SecretStr | None, server: PostgresServer | ValkeyServer, missing: str, settings: Settings
) -> str:
    if given is not None:
        return given.get_secret_value()
    if not server.running():
        raise NotRunning(
            f"{missing} runs in {settings.data_folder}:"
            " start one with `tallyman up`, or set the variable"
        )
    return server.url()
