"""`tallyman`: finds the module of a command when that command is used."""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Protocol

import typer
from typer.core import TyperCommand, TyperGroup

from worker.command.exit_codes import ExitCode

Command = TyperCommand | TyperGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Lazy:
    """A command that is imported when it is used; the help of them all has to be quick."""

    place: str
    help: str

    def load(self, name: str) -> Command:
        module, _, attribute = self.place.partition(":")
        found = getattr(import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command()(found)
            found = app
        command = typer.main.get_command(found)
        assert isinstance(command, Command)  # noqa: S101  typer makes no other
        command.name = name
        return command


COMMANDS: Mapping[str, Lazy] = {
    "demo": Lazy(place="worker.command.demo:demo", help="Show the whole journey of some orders."),
    "up": Lazy(place="worker.command.up:up", help="Run everything on this machine until Ctrl-C."),
    "down": Lazy(place="worker.command.up:down", help="Stop what `up` or `demo --keep` runs."),
    "top": Lazy(place="worker.command.top:top", help="Show what goes on now, in the terminal."),
    "report": Lazy(
        place="worker.command.report:report", help="Sum up a period, as a page with plots too."
    ),
    "submit": Lazy(place="worker.command.submit:submit", help="Hand over jobs."),
    "jobs": Lazy(place="worker.command.jobs:app", help="Look at jobs, retry and cancel them."),
    "parked": Lazy(
        place="worker.command.parked:app", help="Look at messages that are no job; send them again."
    ),
    "queues": Lazy(
        place="worker.command.queues:app", help="Look at queues, pause, limit and order them."
    ),
    "stock": Lazy(place="worker.command.stock:stock", help="Show the stock of products."),
    "orders": Lazy(place="worker.command.orders:app", help="Show orders and why they got what."),
    "users": Lazy(place="worker.command.users:app", help="Show users."),
    "import": Lazy(place="worker.command.imports:app", help="Import a file of rows."),
    "imports": Lazy(place="worker.command.runs:app", help="Look at imports, stop and resume them."),
    "schema": Lazy(place="worker.command.schema:schema", help="Print the schema of job kinds."),
    "health": Lazy(place="worker.command.health:health", help="Tell whether the parts work."),
    "migrate": Lazy(place="worker.command.migrate:app", help="Bring the database to its schema."),
    "worker": Lazy(place="worker.command.processes:worker", help="Run jobs."),
    "relay": Lazy(place="worker.command.processes:relay", help="Tell workers what is due."),
    "beat": Lazy(place="worker.command.processes:beat", help="Submit what the clock asks for."),
    "metrics": Lazy(place="worker.command.processes:metrics", help="Tell Prometheus how it goes."),
    "flower": Lazy(place="worker.command.processes:flower", help="Serve Celery's dashboard."),
}


class Formatter(Protocol):
    """What typer gives the help to write to."""

    def section(self, name: str) -> AbstractContextManager[None]: ...

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None: ...


class LazyGroup(TyperGroup):
    """Knows its commands by name; imports one to run it, or to print its own help."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002  typer's signature
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> Command | None:  # noqa: ARG002  as above
        lazy = COMMANDS.get(cmd_name)
        return lazy.load(cmd_name) if lazy else None

    def format_commands(self, ctx: object, formatter: Formatter) -> None:  # noqa: ARG002  as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


app = typer.Typer(
    cls=LazyGroup,
    # Rich takes longer to import than the rest of the help to print.
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415  nothing else needs it

        typer.echo(f"tallyman {version('tallyman')}")
        raise typer.Exit


@app.callback()
def tallyman(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Give every job its effect exactly once.

    Settings are environment variables TALLYMAN_…, or lines of .env. Without the URLs of a
    database and a broker, `up` and `demo` start their own.
    """


def main() -> None:
    """Run the command line: whatever goes wrong is one line on stderr and an exit code."""
    try:
        app(prog_name="tallyman")
    except BrokenPipeError:
        # Whoever read has gone; Python must not try to flush the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.REFUSED)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001  the last place to say what went wrong
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    # Imported by what failed: a command that does not fail need not wait for it.
    from worker.command.explanations import explain  # noqa: PLC0415
    from worker.harmless import harmless, harmless_line  # noqa: PLC0415

    message, code = explain(error) or (
        f"unexpected {type(error).__name__}: {error}; set TALLYMAN_LOG_LEVEL=DEBUG to see where",
        ExitCode.REFUSED,
    )
    if os.environ.get("TALLYMAN_LOG_LEVEL") == "DEBUG":
        print(harmless("".join(traceback.format_exception(error))), file=sys.stderr)
    print(f"error: {harmless_line(message)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
