"""Users in PostgreSQL: a batch is one statement, whatever its size."""

from collections.abc import Collection, Sequence

from psycopg.errors import UniqueViolation
from sqlalchemy.exc import IntegrityError

from adapters.postgres.rows import as_rows
from adapters.postgres.statements import Row, Statements
from domain.errors import StaleDecision
from domain.users.email import EmailAddress
from domain.users.identity import Forgotten, IdentityField, IdentityKey, Username
from domain.users.model import Profile, User
from domain.users.status import UserStatus

_COLUMNS = """
    id, external_id, username, username_key, email, email_key, email_verified, name, status,
    version, password_hash
"""

_MATCHING = f"""
    SELECT {_COLUMNS} FROM user_account
    WHERE id = ANY(%(ids)s::text[])
       OR external_id = ANY(%(external_ids)s::text[])
       OR email_key = ANY(%(email_keys)s::text[])
       OR username_key = ANY(%(username_keys)s::text[])
    ORDER BY id
    FOR SHARE
"""

# In id order: two batches must not deadlock.
_LOCKED = f"""
    SELECT {_COLUMNS} FROM user_account
    WHERE id = ANY(%(ids)s::text[])
    ORDER BY id
    FOR UPDATE
"""

_TOMBSTONES = """
    SELECT digest FROM erased_identity WHERE digest = ANY(%(digests)s::bytea[])
"""

_ROWS = """
    jsonb_to_recordset(%(rows)s::jsonb) AS new (
        id text, external_id text, username text, username_key text, email text, email_key text,
        email_verified boolean, name text, status text, version integer, password_hash text
    )
"""

# By email: two batches that hold the same people wait for each other instead of deadlocking.
_ADD = f"""
    INSERT INTO user_account ({_COLUMNS})
    SELECT {_COLUMNS} FROM {_ROWS}
    ORDER BY email_key
    ON CONFLICT DO NOTHING
"""

_SAVE = f"""
    UPDATE user_account AS stored
    SET external_id = new.external_id,
        username = new.username, username_key = new.username_key,
        email = new.email, email_key = new.email_key, email_verified = new.email_verified,
        name = new.name, status = new.status, version = new.version,
        password_hash = new.password_hash, updated_at = now()
    FROM {_ROWS}
    WHERE stored.id = new.id
"""

_ENTOMB = """
    INSERT INTO erased_identity (digest)
    SELECT unnest(%(digests)s::bytea[])
    ON CONFLICT DO NOTHING
"""

# A user's jobs name the id. A job of another id speaks of the same person only where it did
# not succeed: the address was taken. Earlier addresses are known from the user's own jobs that did.
# LATERAL makes it one index probe for each value: the planner has no statistics of what a
# partial index covers, and would read the whole ledger for a batch.
_JOBS_ABOUT = """
    WITH own AS MATERIALIZED (
        SELECT found.* FROM unnest(%(ids)s::text[]) AS person (id)
        CROSS JOIN LATERAL (
            SELECT job.id, job.payload, job.state FROM job
            WHERE job.queue = 'users' AND job.id = person.id
            UNION ALL
            SELECT job.id, job.payload, job.state FROM job
            WHERE job.queue = 'users' AND job.payload ->> 'user_id' = person.id
        ) AS found
    ), address AS MATERIALIZED (
        SELECT lower(unnest(%(addresses)s::text[])) AS email
        UNION
        SELECT lower(payload ->> 'email') FROM own
        WHERE state = 'succeeded' AND payload ->> 'email' IS NOT NULL
    )
    SELECT id FROM own
    UNION
    SELECT found.id FROM address
    CROSS JOIN LATERAL (
        SELECT job.id FROM job
        WHERE job.queue = 'users' AND lower(job.payload ->> 'email') = address.email
          AND job.state IN ('rejected', 'dead', 'cancelled')
        OFFSET 0
    ) AS found
"""

# The hash of the payload stays, so that a job id used again is still told apart.
_SCRUB = """
    WITH scrubbed AS (
        UPDATE job
        SET payload = '{}',
            result = CASE WHEN result IS NOT NULL THEN CAST('{}' AS jsonb) END,
            error = CASE WHEN jsonb_typeof(error) = 'object'
                THEN error || %(nothing)s::jsonb ELSE error END,
            scrubbed_at = now()
        WHERE id = ANY(%(job_ids)s::text[])
          AND state IN ('succeeded', 'rejected', 'dead', 'cancelled')
          AND scrubbed_at IS NULL
        RETURNING id
    )
    UPDATE job_failure SET error = error || %(nothing)s::jsonb
    WHERE job_id = ANY(%(job_ids)s::text[]) AND job_id IN (SELECT id FROM scrubbed)
"""

# The cell that an import found wrong may be of somebody who is registered by another row.
_SCRUB_ERRORS = """
    UPDATE import_error SET value = NULL
    WHERE is_personal AND value IS NOT NULL AND lower(value) = ANY(%(values)s::text[])
"""

# What stays of an error is its type and module.
_NOTHING = """{
    "message": "scrubbed: the user was erased", "details": {}, "traceback": null
}"""


class PostgresUsers:
    """Users in the tables `user_account` and `erased_identity`, within one transaction."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def matching(self, *, ids: Collection[str], keys: Collection[IdentityKey]) -> list[User]:
        if not ids and not keys:
            return []
        values: dict[IdentityField, list[str]] = {each: [] for each in IdentityField}
        for key in keys:
            values[key.field].append(key.value)
        rows = self._statements.ask(
            _MATCHING,
            {
                "ids": list(ids),
                "external_ids": values[IdentityField.EXTERNAL_ID],
                "email_keys": values[IdentityField.EMAIL],
                "username_keys": values[IdentityField.USERNAME],
            },
        )
        return [_user(row) for row in rows]

    def locked(self, ids: Collection[str]) -> dict[str, User]:
        rows = self._statements.ask(_LOCKED, {"ids": list(ids)})
        return {row.id: _user(row) for row in rows}

    def tombstones(self, digests: Collection[bytes]) -> set[bytes]:
        if not digests:
            return set()
        found = self._statements.ask(_TOMBSTONES, {"digests": list(digests)})
        return {row.digest for row in found}

    def add(self, users: Sequence[User]) -> None:
        def check(added: int) -> None:
            if added < len(users):
                message = f"{len(users) - added} of {len(users)} new users hold a taken key"
                raise StaleDecision(message)

        self._statements.tell(_ADD, {"rows": as_rows(map(_columns, users))}, check=check)

    def save(self, users: Sequence[User]) -> None:
        try:
            saved = self._statements.write(_SAVE, {"rows": as_rows(map(_columns, users))})
        except IntegrityError as error:
            if not isinstance(error.orig, UniqueViolation):
                raise
            # Without its cause: the database quotes the value.
            message = "one of the users takes a key that was just taken"
            raise StaleDecision(message) from None
        if saved < len(users):
            message = f"{len(users) - saved} of {len(users)} users are gone"
            raise StaleDecision(message)

    def forget(self, people: Sequence[Forgotten]) -> None:
        digests = sorted({digest for person in people for digest in person.digests})
        self._statements.tell(_ENTOMB, {"digests": digests})
        addresses = {person.email for person in people} | {
            key.value
            for person in people
            for key in person.keys
            if key.field is IdentityField.EMAIL
        }
        jobs = self._statements.ask(
            _JOBS_ABOUT,
            {"ids": [person.user_id for person in people], "addresses": list(addresses)},
        )
        self._statements.tell(_SCRUB_ERRORS, {"values": _cells(people)})
        self._statements.tell(_SCRUB, {"job_ids": [job.id for job in jobs], "nothing": _NOTHING})


def _cells(people: Sequence[Forgotten]) -> list[str]:
    given = {person.email for person in people}
    keys = {key.value for person in people for key in person.keys}
    return sorted({cell.lower() for cell in given | keys})


def _columns(user: User) -> dict[str, object]:
    profile = user.profile
    return {
        "id": user.id,
        "external_id": profile and profile.external_id,
        "username": profile and profile.username.given,
        "username_key": profile and profile.username.key,
        "email": profile and profile.email.given,
        "email_key": profile and profile.email.key,
        "email_verified": profile is not None and profile.email_verified,
        "name": profile and profile.name,
        "status": user.status,
        "version": user.version,
        "password_hash": profile and profile.password_hash,
    }


def _user(row: Row) -> User:
    return User(
        id=row.id,
        status=UserStatus(row.status),
        version=row.version,
        profile=None if row.status == UserStatus.ERASED else _profile(row),
    )


def _profile(row: Row) -> Profile:
    return Profile(
        username=Username(given=row.username, key=row.username_key),
        email=EmailAddress(given=row.email, key=row.email_key),
        name=row.name,
        external_id=row.external_id,
        password_hash=row.password_hash,
        email_verified=row.email_verified,
    )
