"""What each role may do with tables, and that each table was thought of."""

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from adapters.embedded.servers import Addresses
from adapters.postgres import roles as product_roles
from adapters.postgres import schema
from adapters.postgres.access import ACCESS, FUNCTIONS, SEQUENCES, Role
from tests import roles
from tests.conftest import ROOT
from tests.roles import Site, connected, engine, migrate

Connection = psycopg.Connection[Any]

RUNNING = (Role.WORKER, Role.PRODUCER, Role.OPERATOR, Role.READER)

DDL = (
    "CREATE TABLE mine (id integer)",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "ALTER TABLE job ADD COLUMN mine integer",
    "ALTER TABLE job DISABLE TRIGGER job_moves",
    "DROP TRIGGER stock_movement_append_only ON stock_movement",
    "CREATE OR REPLACE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
    "DROP TABLE outbox",
    "TRUNCATE job CASCADE",
    "SET session_replication_role = replica",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "GRANT tallyman_migrator TO CURRENT_USER",
    "SET ROLE tallyman_migrator",
    "COPY job TO PROGRAM 'cat'",
    "SELECT pg_read_file('postgresql.conf')",
)

REFUSED = {
    Role.WORKER: (
        "UPDATE stock_movement SET after = 0",
        "DELETE FROM stock_movement",
        "UPDATE queue SET paused_at = now()",
        "UPDATE job SET payload_hash = ''",
        "UPDATE batch SET reference = 'mine'",
        "UPDATE order_line SET sku = 'mine'",
        "DELETE FROM user_account",
        "DELETE FROM erased_identity",
        "DELETE FROM sales_order",
        "UPDATE alembic_version SET version_num = '0001'",
    ),
    Role.PRODUCER: (
        "SELECT payload FROM job",
        "SELECT * FROM job",
        "SELECT id FROM user_account",
        "SELECT email FROM user_account",
        "SELECT digest FROM erased_identity",
        "SELECT content FROM parked_message",
        "SELECT value FROM import_error",
        "SELECT content FROM import_chunk",
        "SELECT sku FROM batch",
        "UPDATE batch SET allocated = 0",
        "INSERT INTO product (sku) VALUES ('mine')",
        "INSERT INTO stock_movement (job_id) VALUES ('mine')",
        "INSERT INTO job (id, state, result) VALUES ('mine', 'succeeded', '{}')",
        "UPDATE job SET state = 'cancelled'",
        "DELETE FROM job",
        "INSERT INTO queue (name) VALUES ('mine')",
        "SELECT nextval('sales_order_sequence_seq')",
    ),
    Role.OPERATOR: (
        "SELECT password_hash FROM user_account",
        "SELECT * FROM user_account",
        "SELECT digest FROM erased_identity",
        "UPDATE user_account SET status = 'active'",
        "UPDATE batch SET allocated = 0",
        "UPDATE job SET payload = '{}'",
        "UPDATE job SET kind = 'mine'",
        "DELETE FROM job",
        "DELETE FROM outbox",
        "INSERT INTO stock_movement (job_id) VALUES ('mine')",
        "INSERT INTO sales_order (order_id) VALUES ('mine')",
    ),
    Role.READER: (
        "SELECT payload FROM job",
        "SELECT payload_hash FROM job",
        "SELECT * FROM job",
        "SELECT id FROM user_account",
        "SELECT digest FROM erased_identity",
        "SELECT content FROM parked_message",
        "SELECT value FROM import_error",
        "SELECT content FROM import_chunk",
        "SELECT id FROM job FOR UPDATE",
        "SELECT id FROM job FOR KEY SHARE",
        "SELECT nextval('sales_order_sequence_seq')",
        *(f"DELETE FROM {table}" for table in ACCESS),
        *(f"INSERT INTO {table} DEFAULT VALUES" for table in ACCESS),
        *(f"TRUNCATE {table}" for table in ACCESS),
    ),
}


def undecided(connection: Connection) -> set[str]:
    """Return what is in the schema and nobody has decided who may use."""
    tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f')"
    )
    # A column that draws its own numbers asks for no privilege.
    sequences = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " AND relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend"
        " WHERE objid = pg_class.oid AND classid = 'pg_class'::regclass AND deptype = 'i')"
    )
    functions = connection.execute(
        "SELECT oid::regprocedure::text FROM pg_proc"
        " WHERE pronamespace = current_schema()::regnamespace"
    )
    return (
        {name for [name] in tables} - ACCESS.keys()
        | {name for [name] in sequences} - SEQUENCES.keys()
        | {name for [name] in functions} - set(FUNCTIONS)
    )


@pytest.fixture
def fresh(servers: Addresses) -> Iterator[Site]:
    """Give an empty database with roles."""
    with roles.site(servers) as made:
        yield made


class TestDecisions:
    def test_are_made_for_all_that_the_migrations_make(self, site: Site) -> None:
        with site.as_owner() as connection:
            assert undecided(connection) == set()

    def test_are_made_for_no_more(self, site: Site) -> None:
        with site.as_owner() as connection:
            found = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
            )
            assert {*ACCESS, *SEQUENCES} <= {name for [name] in found}

    def test_are_missed_where_they_are_missing(self, fresh: Site) -> None:
        migrate(fresh.owner)
        with fresh.as_owner() as connection:
            connection.execute("CREATE TABLE forgotten (id integer)")
            connection.execute("CREATE SEQUENCE counted")
            connection.execute("CREATE VIEW seen AS SELECT 1")
            connection.execute(
                "CREATE FUNCTION called() RETURNS integer LANGUAGE sql AS 'SELECT 1'"
            )
            assert undecided(connection) == {"forgotten", "counted", "seen", "called()"}


class TestRoles:
    @pytest.mark.parametrize(
        ("role", "statement"),
        [
            *product(RUNNING, DDL),
            *((role, statement) for role in RUNNING for statement in REFUSED[role]),
        ],
    )
    def test_are_refused_what_is_not_theirs(self, site: Site, role: Role, statement: str) -> None:
        with connected(site[role]) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute(statement)

    def test_log_in_as_nobody(self, site: Site) -> None:
        with site.as_owner() as connection:
            able = connection.execute(
                "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)"
                " AND (rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication"
                " OR rolbypassrls)",
                [list(product_roles.names().values())],
            ).fetchall()
        assert able == []

    @pytest.mark.parametrize("table", sorted(ACCESS))
    def test_are_needed_for_every_table(self, site: Site, table: str) -> None:
        with connected(site.stranger) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute(f"SELECT FROM {table}")

    def test_do_not_grow_by_what_somebody_granted(self, site: Site) -> None:
        with site.as_owner() as connection:
            connection.execute("GRANT ALL ON user_account TO tallyman_reader, PUBLIC")
        with engine(site.owner) as opened:
            product_roles.set_up(opened)
        with connected(site[Role.READER]) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute("SELECT FROM user_account")


class TestMigrator:
    def test_migrates_an_empty_database_and_owns_what_it_makes(self, fresh: Site) -> None:
        migrate(fresh[Role.MIGRATOR])
        with fresh.as_owner() as connection:
            owners = connection.execute(
                "SELECT DISTINCT relowner::regrole::text FROM pg_class"
                " WHERE relnamespace = current_schema()::regnamespace"
            ).fetchall()
            assert undecided(connection) == set()
        assert owners == [("tallyman_migrator",)]

    def test_grants_with_each_migration(self, fresh: Site) -> None:
        migrate(fresh[Role.MIGRATOR])
        with fresh.as_owner() as connection:
            connection.execute("REVOKE ALL ON job FROM tallyman_reader")
        migrate(fresh[Role.MIGRATOR])
        with connected(fresh[Role.READER]) as connection:
            connection.execute("SELECT id, state FROM job")

    def test_is_whoever_migrates_a_database_with_roles(self, fresh: Site) -> None:
        migrate(fresh.owner)
        with fresh.as_owner() as connection:
            [[owner]] = connection.execute(
                "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'job'::regclass"
            ).fetchall()
        assert owner == "tallyman_migrator"

    @pytest.mark.parametrize("role", RUNNING)
    def test_is_nobody_else(self, fresh: Site, role: Role) -> None:
        with pytest.raises(Exception, match="permission denied"):
            migrate(fresh[role])

    def test_takes_over_tables_that_run_already(self, servers: Addresses, template: str) -> None:
        with roles.site(servers, template=template) as copied, copied.as_owner() as connection:
            owners = connection.execute(
                "SELECT relname, relowner::regrole::text FROM pg_class WHERE relkind IN ('r', 'S')"
                " AND relnamespace = current_schema()::regnamespace"
                " AND relowner <> 'tallyman_migrator'::regrole"
            ).fetchall()
            assert owners == []
            # Whoever owned them works on as before.
            connection.execute("SELECT payload FROM job")
            connection.execute("UPDATE batch SET allocated = 0")


class TestRequire:
    def test_says_what_a_login_lacks(self, site: Site) -> None:
        lacks = pytest.raises(
            product_roles.LacksPrivileges, match=r"INSERT on job,.*tallyman_worker"
        )
        with engine(site[Role.READER]) as opened, lacks:
            product_roles.require(opened, Role.WORKER)

    def test_is_content_with_a_worker(self, site: Site) -> None:
        with engine(site[Role.WORKER]) as opened:
            product_roles.require(opened, Role.WORKER)
            schema.require(opened)

    @pytest.mark.parametrize("role", RUNNING)
    def test_is_content_with_each_for_its_own(self, site: Site, role: Role) -> None:
        with engine(site[role]) as opened:
            product_roles.require(opened, role)


class TestGuide:
    def test_makes_logins(self, site: Site) -> None:
        guide = (ROOT / "docs/security.md").read_text()
        [statements] = re.findall(r"^```sql\n(.*?)^```$", guide, flags=re.MULTILINE | re.DOTALL)
        with site.as_owner() as connection, connection.transaction(force_rollback=True):
            connection.execute(statements)
            [[enough]] = connection.execute(
                "SELECT has_column_privilege('web_shop', 'job', 'payload', 'INSERT')"
                " AND NOT has_column_privilege('web_shop', 'job', 'payload', 'SELECT')"
            ).fetchall()
        assert enough
