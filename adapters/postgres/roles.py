"""Roles in the database: the SQL that makes them and grants, and whether a login has enough.

They are groups, which nobody logs in as: a database administrator grants them to the logins of
programs and people. What each may do is said by `adapters.postgres.access`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import Connection, Engine

from adapters.postgres.access import ACCESS, FUNCTIONS, SEQUENCES, Role, needed

PREFIX = "tallyman"
"""How names of roles begin: roles belong to a whole server, which may have several databases."""

_GRANTED = tuple(role for role in Role if role is not Role.MIGRATOR)
_FITTING_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,49}")


class UnfitPrefix(Exception):
    """A prefix cannot begin the names of roles."""


class LacksPrivileges(Exception):
    """The login may not do what the process is there for."""


def names(prefix: str = PREFIX) -> dict[Role, str]:
    """Return the names of the roles.

    Raises:
        UnfitPrefix: These would be names that have to be quoted, or are too long.
    """
    if not _FITTING_PREFIX.fullmatch(prefix):
        raise UnfitPrefix(
            f"--prefix: {prefix!r} cannot begin names of roles: up to 50 lower-case letters, digits"
            " and underscores, the first of them a letter"
        )
    return {role: f"{prefix}_{role}" for role in Role}


def script(prefix: str = PREFIX) -> str:
    """Return the SQL that makes the roles, hands the schema to the migrator and grants the rest.

    To run it again does no harm. Where there are no tables yet, it is their migration that grants.
    """
    of = names(prefix)
    return "\n".join((_make_roles(of), _hand_over(of), _grant_if_there(of)))


def set_up(engine: Engine, *, prefix: str = PREFIX) -> None:
    """Make the roles and grant, in one transaction."""
    with engine.begin() as connection:
        _run(connection, script(prefix))


def prefix_of(connection: Connection) -> str | None:
    """Return the prefix of the roles that this database is set up for; None where it has none."""
    owner = connection.exec_driver_sql(
        "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = current_schema()"
    ).scalar()
    prefix, suffix, rest = (owner or "").rpartition(f"_{Role.MIGRATOR}")
    return prefix if suffix and not rest and _FITTING_PREFIX.fullmatch(prefix) else None


def become_migrator(connection: Connection) -> None:
    """Have what this session makes belong to the migrator, where the database has one."""
    if prefix := prefix_of(connection):
        connection.exec_driver_sql(f"SET ROLE {names(prefix)[Role.MIGRATOR]}")


def grant_again(connection: Connection) -> None:
    """Grant on every table what its roles may, as its owner; nothing where there are no roles."""
    if prefix := prefix_of(connection):
        _run(connection, "\n".join(_grants(names(prefix))))


def lacking(role: Role) -> str:
    """Return a question for what a login lacks to do what `role` is for; one row, NULL for nothing.

    Quoted by hand: what it holds is from this module.
    """
    rows = ", ".join(
        f"('{name}', '{column}', '{privilege}')" for name, privilege, column in needed(role)
    )
    return f"""
SELECT string_agg(DISTINCT privilege || ' on ' || name, ', ' ORDER BY privilege || ' on ' || name)
FROM (VALUES {rows}) AS needed (name, "column", privilege)
WHERE NOT CASE WHEN "column" = '' THEN has_table_privilege(name, privilege)
               ELSE has_column_privilege(name, "column", privilege) END"""


def objection(lacks: str | None, role: Role) -> str | None:
    """Say why a process cannot do its work with this login; None where it can."""
    if lacks is None:
        return None
    return (
        f"this login of PostgreSQL lacks {lacks}: it needs the role {PREFIX}_{role},"
        " see `tallyman migrate roles --help`"
    )


def require(engine: Engine, role: Role) -> None:
    """Make sure that the login may do what `role` is for.

    Raises:
        LacksPrivileges: It may not; the message says what it lacks.
    """
    with engine.connect() as connection:
        lacks = connection.exec_driver_sql(lacking(role)).scalar()
    if problem := objection(lacks, role):
        raise LacksPrivileges(problem)


def may_read(connection: Connection, table: str, column: str) -> bool:
    """Tell whether this login may read a column."""
    return bool(
        connection.exec_driver_sql(
            "SELECT has_column_privilege(%(table)s, %(column)s, 'SELECT')",
            {"table": table, "column": column},
        ).scalar()
    )


def _run(connection: Connection, statements: str) -> None:
    connection.execution_options(no_parameters=True).exec_driver_sql(statements)


def _make_roles(of: Mapping[Role, str]) -> str:
    migrator = of[Role.MIGRATOR]
    everyone = ", ".join(of.values())
    return f"""\
-- Roles for groups, without login and without password: grant them to logins, such as
--     CREATE ROLE web_shop LOGIN IN ROLE {of[Role.PRODUCER]};
DO $$
DECLARE
    made text;
BEGIN
    FOREACH made IN ARRAY ARRAY[{_quoted(of.values())}] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = made) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', made);
        END IF;
    END LOOP;
END $$;

-- Whoever runs this, or owned the tables, goes on to be able to: revoke it when programs have
-- logins of their own. Superusers need no membership.
DO $$
DECLARE
    owner name;
BEGIN
    FOR owner IN
        SELECT rolname FROM pg_roles
        WHERE NOT rolsuper AND rolname <> '{migrator}' AND (
            rolname = current_user
            OR oid IN (SELECT relowner FROM pg_class WHERE oid = to_regclass('job')))
    LOOP
        IF NOT pg_has_role(owner, '{migrator}', 'USAGE') THEN
            EXECUTE format('GRANT {migrator} TO %I', owner);
        END IF;
    END LOOP;
END $$;

-- The schema belongs to the migrator; the others may use it, and make nothing in it.
DO $$
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {everyone}', current_database());
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = current_schema()
                   AND nspowner = '{migrator}'::regrole) THEN
        EXECUTE format('ALTER SCHEMA %I OWNER TO {migrator}', current_schema());
    END IF;
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO {everyone}', current_schema());
END $$;
"""


def _hand_over(of: Mapping[Role, str]) -> str:
    migrator = of[Role.MIGRATOR]
    return f"""\
-- So do the tables, with their sequences, and the functions of their triggers.
DO $$
DECLARE
    owned text;
BEGIN
    FOR owned IN
        SELECT relname FROM pg_class
        WHERE oid = ANY (ARRAY(SELECT to_regclass(known)
                               FROM unnest(ARRAY[{_quoted(ACCESS)}]) AS known))
          AND relowner <> '{migrator}'::regrole
        ORDER BY relname
    LOOP
        EXECUTE format('ALTER TABLE %I OWNER TO {migrator}', owned);
    END LOOP;
    FOR owned IN
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE oid = ANY (ARRAY(SELECT to_regprocedure(known)
                               FROM unnest(ARRAY[{_quoted(FUNCTIONS)}]) AS known))
          AND proowner <> '{migrator}'::regrole
        ORDER BY oid
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO {migrator}', owned);
    END LOOP;
END $$;
"""


def _grant_if_there(of: Mapping[Role, str]) -> str:
    grants = "\n".join(f"    {line}" for each in _grants(of) for line in each.splitlines())
    return f"""\
-- What each may do with each table; `tallyman migrate upgrade` grants it anew each time.
DO $$
BEGIN
    IF to_regclass('job') IS NULL THEN
        RETURN;
    END IF;
{grants}
END $$;
"""


def _grants(of: Mapping[Role, str]) -> Iterator[str]:
    """Yield statements that leave each role with what it may, whatever it could before."""
    everyone = ", ".join(of[role] for role in _GRANTED)
    for kind, objects in (("TABLE", ACCESS), ("SEQUENCE", SEQUENCES)):
        for name, access in objects.items():
            yield f"REVOKE ALL ON {kind} {name} FROM PUBLIC, {everyone};"
            for role in _GRANTED:
                if privileges := access.of(role):
                    yield f"GRANT {privileges} ON {kind} {name} TO {of[role]};"
    for function, access in FUNCTIONS.items():
        yield f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC, {everyone};"
        for role in _GRANTED:
            if privileges := access.of(role):
                yield f"GRANT {privileges} ON FUNCTION {function} TO {of[role]};"


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)
