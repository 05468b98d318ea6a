"""Logins of PostgreSQL, one in each role, for tests of what each may do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
from sqlalchemy import Engine
from uuid6 import uuid7

from adapters.embedded.servers import Addresses
from adapters.postgres import roles, schema
from adapters.postgres.access import Role
from adapters.postgres.engine import create
from tests.databases import drop

PASSWORD = "of-a-login"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A database whose owner is no superuser, and a login in each of its roles."""

    owner: str
    """Address for the database's owner."""
    logins: Mapping[Role, str]
    stranger: str
    """Address for a login without any role."""

    def __getitem__(self, role: Role) -> str:
        return self.logins[role]

    @contextmanager
    def as_owner(self) -> Iterator["psycopg.Connection[Any]"]:
        """Connect as whoever owns the database, each statement by itself."""
        with connected(self.owner) as connection:
            yield connection


@contextmanager
def site(servers: Addresses, *, template: str | None = None) -> Iterator[Site]:
    """Make a database, migrated where it is a copy of `template`, and logins in its roles."""
    tag = uuid7().hex[-12:]
    name = f"roles_{tag}"
    owner = urlsplit(servers.database_url)._replace(path=f"/{name}").geturl()
    with connected(servers.database_url) as administration:
        administration.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template1'}")
        with engine(owner) as opened:
            roles.set_up(opened)
        users = {str(role): f"{role}_{tag}" for role in Role} | {"stranger": f"stranger_{tag}"}
        for user in users.values():
            administration.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
            # To end its sessions.
            administration.execute(f"GRANT {user} TO CURRENT_USER")
        for role, group in roles.names().items():
            administration.execute(f"GRANT {group} TO {users[role]}")
        try:
            yield Site(
                owner=owner,
                logins={role: _as(owner, users[role]) for role in Role},
                stranger=_as(owner, users["stranger"]),
            )
        finally:
            drop(administration, name)
            administration.execute(f"DROP ROLE {', '.join(users.values())}")


@contextmanager
def connected(url: str) -> Iterator["psycopg.Connection[Any]"]:
    """Connect, each statement by itself."""
    with psycopg.connect(
        url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True
    ) as connection:
        yield connection


def migrate(url: str) -> None:
    """Bring a database to the newest schema with this login."""
    with engine(url) as opened:
        schema.upgrade(opened)


@contextmanager
def engine(url: str) -> Iterator[Engine]:
    """Give an engine, as programs have one."""
    opened = create(url)
    try:
        yield opened
    finally:
        opened.dispose()


def _as(url: str, user: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{PASSWORD}@{parts.hostname}:{parts.port}").geturl()
