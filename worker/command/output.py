"""What all commands say, and how: data to stdout, words to stderr, the exit code last.

Exit codes are those of `worker.command.exit_codes.ExitCode`. A command lets errors through:
`worker.command.main` turns them into a line and a code, by `worker.command.explanations`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from shlex import quote
from typing import Annotated, NoReturn

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.command.exit_codes import ExitCode
from worker.harmless import harmless, harmless_json, harmless_line

WIDE = 1_000
"""Columns where there is no terminal: a line that a program reads is never folded."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else to stdout.")]

AfterOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Go on after this one, the last that was shown.")
]


def console(*, stderr: bool = False) -> Console:
    """Return a console on stdout or stderr, as they are now."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=WIDE)


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows to stdout; numbers stand right, None is a hyphen, and nothing is markup."""
    cells = [list(row) for row in rows]
    table = Table(
        title=Text(harmless_line(title)), title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for place, column in enumerate(columns):
        numbers = [isinstance(row[place], int) for row in cells if row[place] is not None]
        table.add_column(
            Text(column), justify="right" if numbers and all(numbers) else "left", overflow="fold"
        )
    for row in cells:
        table.add_row(*(Text(_shown(cell)) for cell in row))
    console().print(table)


def show_fields(fields: Mapping[str, object]) -> None:
    """Print names and values to stdout, one pair a line."""
    grid = Table.grid(padding=(0, 2))
    for name, value in fields.items():
        grid.add_row(Text(name), Text(_shown(value), overflow="fold"))
    console().print(grid)


def tell_of_more(ids: Sequence[str], *, limit: int) -> None:
    """Tell people how a list goes on that has shown as many as it was to."""
    if len(ids) == limit:
        note(f"the first {limit}: --after {quote(ids[-1])} shows what comes then")


def show_json(value: object) -> None:
    """Print a value to stdout as JSON; dataclasses, enums, dates and UUIDs included."""
    told = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    typer.echo(harmless_json(told.decode()))


def say(message: str) -> None:
    """Print a line of data to stdout."""
    typer.echo(harmless(message))


def note(message: str) -> None:
    """Print a line for people to stderr."""
    typer.echo(harmless(message), err=True)


def fail(message: str, code: ExitCode = ExitCode.REFUSED) -> NoReturn:
    """Print why to stderr and end the command with this code."""
    note(f"error: {message}")
    raise typer.Exit(code)


def _shown(cell: object) -> str:
    match cell:
        case None:
            text = "-"
        case bool():
            text = "yes" if cell else "no"
        case int():
            text = f"{cell:,}"
        case datetime():
            text = f"{cell:%Y-%m-%d %H:%M:%S}"
        case _:
            # Producers name jobs and files: what they say must not reach the terminal as commands.
            text = harmless(str(cell))
    return text
