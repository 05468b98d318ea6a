"""`tallyman migrate`: bring a database to the newest schema, and check that this can be done."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from adapters.embedded.postgres import PostgresServer
from adapters.embedded.servers import EmbeddedServers
from adapters.postgres import roles, schema
from adapters.postgres.access import Role
from adapters.postgres.engine import opened
from worker.command.exit_codes import ExitCode
from worker.command.output import fail, note, say
from worker.settings import Settings, load

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Bring the database to its schema."
)

FORWARD_ONLY = (
    "migrations go forward only: data written since would be lost."
    " Restore a backup, or write the revision that undoes this one"
)


@app.command()
def upgrade() -> None:
    """Apply every migration that the database has not seen; a newer one stays as it is."""
    with opened(_own_url(load()), application="tallyman migrate") as engine:
        before = schema.revision(engine)
        schema.upgrade(engine)
        after = schema.revision(engine)
        is_newer = schema.is_newer(engine)
    if is_newer:
        say(f"the database is at revision {after}, newer than this code: nothing is to be done")
    else:
        say(f"the database is at revision {after}" + (", as before" if before == after else ""))


@app.command()
def current() -> None:
    """Print the database's revision; exits with 1 where it is older than this code needs."""
    with opened(_own_url(load()), application="tallyman migrate") as engine:
        here, newest = schema.revision(engine), schema.newest()
    say(f"{here or 'no revision'}, the newest is {newest}")
    if schema.objection(here):
        raise typer.Exit(ExitCode.REFUSED)


@app.command()
def check() -> None:
    """Check the migrations on an empty database: they make the tables, and never go back."""
    with _throwaway_url(load()) as url, schema.scratch_database(url) as engine:
        schema.upgrade(engine)
        problems = schema.differences(engine)
        try:
            schema.downgrade(engine)
        except RuntimeError:
            pass
        else:
            problems.append("the newest revision can be undone: its downgrade() has to refuse")
    for problem in problems:
        note(problem)
    if problems:
        fail("the migrations and adapters/postgres/tables.py do not say the same")
    say(f"the migrations make what the tables say, up to revision {schema.newest()}")


@app.command()
def revision(
    message: Annotated[str, typer.Option("--message", "-m", help="What it changes.")],
) -> None:
    """Write a revision from what adapters/postgres/tables.py has and the migrations lack."""
    with _throwaway_url(load()) as url, schema.scratch_database(url) as engine:
        schema.upgrade(engine)
        if not schema.differences(engine):
            note("nothing differs: the revision is empty")
        file = schema.revise(engine, message)
    say(f"wrote {file}: read it, then run `make check`")


@app.command("roles")
def set_up_roles(
    *,
    only_print: Annotated[
        bool,
        typer.Option("--print", help="Print the SQL, for psql; connect to nothing."),
    ] = False,
    prefix: Annotated[
        str, typer.Option(help="How the roles' names begin: they belong to the whole server.")
    ] = roles.PREFIX,
) -> None:
    """Make PostgreSQL roles that may do no more than they must, for logins to be granted.

    PREFIX_migrator owns the schema and migrates; PREFIX_worker is for workers, relays and beats;
    PREFIX_producer for who hands in jobs; PREFIX_operator for who steers them; PREFIX_reader for
    dashboards and Flower. Run it as a superuser, or as the database's owner with CREATEROLE; again
    does no harm.
    """
    of = roles.names(prefix)
    if only_print:
        say(f"BEGIN;\n\n{roles.script(prefix)}\nCOMMIT;")
        return
    with opened(_own_url(load()), application="tallyman migrate") as engine:
        here = schema.revision(engine)
        if schema.is_newer(engine):
            fail(
                f"the database is at revision {here}, newer than this code: run `tallyman migrate"
                " roles` of the version that knows its tables"
            )
        if here and (problem := schema.objection(here)):
            fail(problem)
        roles.set_up(engine, prefix=prefix)
    say("\n".join(of.values()))
    if here is None:
        note("there are no tables yet: `tallyman migrate upgrade` makes them, and grants on them")
    note(f"grant them to logins, such as: GRANT {of[Role.PRODUCER]} TO web_shop")


@app.command()
def downgrade() -> NoReturn:
    """Refuse: migrations go forward only."""
    fail(FORWARD_ONLY, ExitCode.USAGE)


def _own_url(settings: Settings) -> str:
    """Return the database's address; where none is set, start the embedded server."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    postgres = EmbeddedServers(settings.data_folder).postgres
    postgres.start()
    return postgres.url()


@contextmanager
def _throwaway_url(settings: Settings) -> Iterator[str]:
    """Give the address of a server on which databases may be made."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with tempfile.TemporaryDirectory(prefix="tallyman-migrate-") as folder:
        postgres = PostgresServer(Path(folder) / "postgres")
        try:
            postgres.start()
            yield postgres.url()
        finally:
            postgres.remove_data()
