"""Users, as operators ask for them: a password hash is never read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row

from adapters.postgres.roles import may_read
from domain.errors import DomainError
from domain.users.email import EmailAddress
from domain.users.errors import UserNotFound
from domain.users.identity import Username
from domain.users.status import UserStatus

_USER = """
SELECT id, external_id, username, email, email_key, email_verified, name, status, version,
       {has_password} AS has_password, created_at, updated_at
FROM user_account"""

# Users of one file share a moment: ids keep them in order.
_FURTHER = "(created_at, id) < (%(reached)s, %(after)s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserView:
    """A user for a page or a list; of an erased one, nothing that tells who it was."""

    id: str
    status: UserStatus
    username: str | None = field(repr=False)
    email: str | None = field(repr=False)
    """Cut with an ellipsis where it has more than 100 characters."""
    email_verified: bool
    name: str | None = field(repr=False)
    external_id: str | None = field(repr=False)
    has_password: bool | None
    """None where the login may not look, not even for whether there is one."""
    version: int
    created_at: datetime
    updated_at: datetime


class UserQueries:
    """Reads users; each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, known_by: str) -> UserView | None:
        """Return the user with this id, else with this email, else with this username."""
        rows = self._read(
            "WHERE id = %(id)s OR email_key = %(email)s OR username_key = %(username)s"
            " ORDER BY id = %(id)s DESC, email_key IS NOT DISTINCT FROM %(email)s DESC LIMIT 1",
            id=known_by,
            email=_email_key(known_by),
            username=_username_key(known_by),
        )
        return _user(rows[0]) if rows else None

    def newest(
        self, *, status: UserStatus | None = None, after: str | None = None, limit: int = 50
    ) -> list[UserView]:
        """Return users, the newest first; after the one of this id where one is named.

        Raises:
            UserNotFound: There is none of that id.
        """
        filters = [
            # Not as a parameter: an index of some statuses serves a plan that knows which is meant.
            *([f"status = '{status.value}'"] if status else []),
            *([_FURTHER] if after is not None else []),
        ]
        rows = self._read(
            f"WHERE {' AND '.join(filters) or 'true'}"
            " ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
            after=after,
            reached=self._registered_at(after) if after is not None else None,
            limit=limit,
        )
        return [_user(row) for row in rows]

    def _registered_at(self, user_id: str) -> datetime:
        rows = self._read("WHERE id = %(id)s", id=user_id)
        if not rows:
            raise UserNotFound.of(user_id)
        moment: datetime = rows[0].created_at
        return moment

    def _read(self, which: str, **parameters: Any) -> Sequence[Row[Any]]:
        with self._engine.connect() as connection:
            is_shown = may_read(connection, "user_account", "password_hash")
            users = _USER.format(
                has_password="password_hash IS NOT NULL" if is_shown else "NULL::boolean"
            )
            return connection.exec_driver_sql(f"{users} {which}", parameters).all()


def _email_key(text: str) -> str | None:
    try:
        return EmailAddress.parse(text).key
    except DomainError:
        return None


def _username_key(text: str) -> str | None:
    try:
        return Username.parse(text).key
    except DomainError:
        return None


def _user(row: Row[Any]) -> UserView:
    return UserView(
        id=row.id,
        status=UserStatus(row.status),
        username=row.username,
        email=None if row.email is None else _shown(row),
        email_verified=row.email_verified,
        name=row.name,
        external_id=row.external_id,
        has_password=row.has_password,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _shown(row: Row[Any]) -> str:
    return EmailAddress(given=row.email, key=row.email_key).shown
