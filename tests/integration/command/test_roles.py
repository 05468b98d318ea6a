"""`tallyman` as logins of each role run it: what works, and how it says what does not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.embedded.servers import Addresses
from adapters.postgres.access import Role
from domain.jobs.parking import Form, Reason
from domain.kinds import KINDS
from tests import roles
from tests.integration.command.conftest import Ran, Tallyman
from tests.integration.command.test_parked import MESSAGE, park
from tests.jobs import build_executor
from tests.roles import Site, connected, engine

ADA = "ada.lovelace@example.com"
PERSON = f'{{"user_id": "u1", "username": "countess", "email": "{ADA}", "name": "Ada L"}}'
PERSONAL = (ADA, "countess", "Ada L")
ORDER = '{"order_id": "o1", "lines": [{"sku": "LAMP", "quantity": 2}]}'
PEOPLE = "username,email,name\ncountess2,grace@example.com,Grace\nx,no-address,Nobody\n"

As = Callable[..., Ran]


@pytest.fixture
def site(servers: Addresses, template: str) -> Iterator[Site]:
    with roles.site(servers, template=template) as made:
        yield made


@pytest.fixture
def as_role(lonely_tallyman: Tallyman, site: Site, monkeypatch: pytest.MonkeyPatch) -> As:
    """Give the command as a login of a role runs it."""

    def run(role: Role, *arguments: str | Path, stdin: str = "") -> Ran:
        monkeypatch.setenv("TALLYMAN_DATABASE_URL", site[role])
        return lonely_tallyman(*arguments, stdin=stdin)

    return run


def work(site: Site) -> None:
    """Run what is open and due, as the login of a worker."""
    with engine(site[Role.WORKER]) as opened, connected(site[Role.WORKER]) as connection:
        executor = build_executor(opened, KINDS)
        due = "SELECT kind, id FROM job WHERE next_dispatch <= now() ORDER BY created_at, id"
        while jobs := connection.execute(due).fetchall():
            for kind, job_id in jobs:
                executor.run_dispatched(kind, [job_id], redelivered=False)


@pytest.fixture
def stocked(as_role: As, home: Path, site: Site) -> str:
    """Have a producer and an operator hand in all sorts of things; return the run of an import."""
    for job_id, kind, payload in (
        ("j1", "allocation.create_batch", '{"reference": "b1", "sku": "LAMP", "quantity": 9}'),
        ("j2", "allocation.allocate_order", ORDER),
        ("j3", "users.register", PERSON),
    ):
        done = as_role(Role.PRODUCER, "submit", kind, payload, "--id", job_id)
        assert done.code == 0, done.err
        work(site)
    (home / "people.csv").write_text(PEOPLE)
    taken = as_role(Role.OPERATOR, "import", "users", "people.csv", "--no-wait", "--json")
    assert taken.code == 0, taken.err
    work(site)
    run_id = str(taken.json["run"])
    imported = as_role(Role.OPERATOR, "imports", "show", run_id, "--json").json
    assert (imported["ends"]["created"], imported["ends"]["failed"]) == (1, 1)
    with engine(site[Role.WORKER]) as opened:
        park(opened, MESSAGE, Reason.UNKNOWN_KIND, Form.MESSAGE, task="users.from_tomorrow")
    return run_id


READS = (
    ("jobs", "list"),
    ("jobs", "show", "j1"),
    ("jobs", "show", "j3"),
    ("jobs", "show", "j3", "--reveal"),
    ("jobs", "counts"),
    ("stock",),
    ("stock", "LAMP"),
    ("orders", "list"),
    ("orders", "show", "o1"),
    ("queues",),
    ("parked", "list"),
    ("parked", "show", "1"),
    ("parked", "show", "1", "--reveal"),
    ("imports", "list"),
    ("imports", "show", "RUN"),
)


class TestReader:
    def test_reads_all_that_is_not_of_persons(self, as_role: As, stocked: str) -> None:
        for asked in READS:
            for arguments in (asked, (*asked, "--json")):
                told = as_role(Role.READER, *[stocked if a == "RUN" else a for a in arguments])
                assert told.code == 0, (arguments, told.err)
                for personal in PERSONAL:
                    assert personal not in told.out + told.err, arguments

    def test_is_told_that_it_may_not_read_payloads(self, as_role: As, stocked: str) -> None:
        assert "may not read payloads" in as_role(Role.READER, "jobs", "show", "j1").err

    @pytest.mark.parametrize(
        "arguments",
        [
            ("users", "list"),
            ("users", "show", ADA),
            ("imports", "errors", "RUN"),
            ("imports", "cancel", "RUN"),
            ("jobs", "retry", "j1"),
            ("jobs", "cancel", "j1"),
            ("queues", "pause", "users"),
            ("queues", "resume", "users"),
            ("queues", "rate", "users", "5"),
            ("queues", "priority", "users", "5"),
            ("queues", "limit", "users", "5"),
            ("parked", "drop", "1"),
            ("submit", "allocation.allocate_order", ORDER),
            ("import", "users", "people.csv"),
            ("migrate", "upgrade"),
            ("migrate", "roles"),
            ("migrate", "check"),
        ],
        ids=" ".join,
    )
    def test_is_refused_the_rest_in_one_line(
        self, as_role: As, stocked: str, arguments: tuple[str, ...]
    ) -> None:
        told = as_role(Role.READER, *[stocked if a == "RUN" else a for a in arguments])
        assert told.code == 1, (told.out, told.err)
        [line] = told.err.splitlines()
        assert line.startswith("error: PostgreSQL refuses this login: ")
        assert "permission denied" in line or "must be" in line
        assert ADA not in line


class TestProducer:
    def test_asks_how_its_jobs_stand(self, as_role: As, stocked: str) -> None:
        again = as_role(Role.PRODUCER, "submit", "users.register", PERSON, "--id", "j3", "--json")
        assert again.json["state"] == "succeeded"
        assert not again.json["is_new"]
        assert ADA not in again.out
        other = PERSON.replace("Ada", "Eda")
        conflict = as_role(Role.PRODUCER, "submit", "users.register", other, "--id", "j3")
        assert "IdempotencyConflict" in conflict.err

    @pytest.mark.parametrize(
        "arguments",
        [
            ("users", "list"),
            ("stock",),
            ("orders", "list"),
            ("parked", "list"),
            ("jobs", "cancel", "j"),
        ],
        ids=" ".join,
    )
    def test_is_refused_the_rest(self, as_role: As, arguments: tuple[str, ...]) -> None:
        told = as_role(Role.PRODUCER, *arguments)
        assert told.code == 1
        assert told.err.startswith("error: PostgreSQL refuses this login: permission denied")


class TestOperator:
    def test_reads_what_is_of_persons(self, as_role: As, home: Path, stocked: str) -> None:
        for asked in READS:
            told = as_role(Role.OPERATOR, *[stocked if a == "RUN" else a for a in asked])
            assert told.code == 0, (asked, told.err)
        shown = as_role(Role.OPERATOR, "users", "show", ADA, "--json")
        assert shown.json["email"] == ADA
        assert shown.json["has_password"] is None
        assert "Ada L" in as_role(Role.OPERATOR, "jobs", "show", "j3", "--reveal").out
        as_role(Role.OPERATOR, "imports", "errors", stocked, "--to", "errors.csv")
        assert "no-address" in (home / "errors.csv").read_text()
        assert as_role(Role.OPERATOR, "users", "list").code == 0

    def test_steers(self, as_role: As, stocked: str) -> None:
        for arguments in (
            ("queues", "pause", "users", "--reason", "why not"),
            ("queues", "resume", "users"),
            ("queues", "rate", "users", "5"),
            ("queues", "priority", "users", "5"),
            ("queues", "limit", "users", "5000"),
            ("jobs", "retry", "--state", "dead"),
            ("jobs", "cancel", "--state", "queued"),
            ("parked", "drop", "1"),
        ):
            told = as_role(Role.OPERATOR, *arguments)
            assert told.code == 0, (arguments, told.err)
        # It is not open any more, which is for the domain to say, not for PostgreSQL.
        assert "RunNotOpen" in as_role(Role.OPERATOR, "imports", "cancel", stocked).err


class TestMigrateRoles:
    def test_prints_what_psql_takes_and_connects_to_nothing(
        self, lonely_tallyman: Tallyman, site: Site
    ) -> None:
        printed = lonely_tallyman("migrate", "roles", "--print")
        assert printed.code == 0
        with site.as_owner() as connection:
            connection.execute(printed.out.encode())
            connection.execute(printed.out.encode())

    def test_makes_roles_under_another_name(
        self, tallyman: Tallyman, database_url: str, template: str
    ) -> None:
        first = tallyman("migrate", "roles", "--prefix", "staging")
        assert (first.code, first.out.split()[0]) == (0, "staging_migrator"), first.err
        assert tallyman("migrate", "upgrade").code == 0
        with connected(database_url) as connection:
            [[owner]] = connection.execute(
                "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'job'::regclass"
            ).fetchall()
            assert owner == "staging_migrator"

    def test_makes_them_before_there_are_tables(
        self, lonely_tallyman: Tallyman, servers: Addresses, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with roles.site(servers) as empty:
            monkeypatch.setenv("TALLYMAN_DATABASE_URL", empty.owner)
            made = lonely_tallyman("migrate", "roles")
            assert made.code == 0
            assert "no tables yet" in made.err
            assert lonely_tallyman("migrate", "upgrade").code == 0
            monkeypatch.setenv("TALLYMAN_DATABASE_URL", empty[Role.READER])
            assert lonely_tallyman("jobs", "list").code == 0

    @pytest.mark.parametrize("prefix", ["", "1st", "Tally", "x" * 51, 'a"; DROP ROLE postgres --'])
    def test_refuses_a_prefix_that_is_no_name(self, lonely_tallyman: Tallyman, prefix: str) -> None:
        refused = lonely_tallyman("migrate", "roles", "--print", "--prefix", prefix)
        assert refused.code == 2
        assert refused.out == ""
        assert refused.err.startswith("error: --prefix: ")

    def test_leaves_a_newer_database_alone(self, tallyman: Tallyman, database_url: str) -> None:
        with connected(database_url) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        refused = tallyman("migrate", "roles")
        assert refused.code == 1
        assert "newer than this code" in refused.err
