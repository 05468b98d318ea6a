"""`tallyman import`: files of batches, orders or users."""

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from adapters.files import FileError, TableFile, open_table
from domain.imports.columns import Columns
from domain.imports.errors import InvalidMapping
from domain.imports.rows import Reject
from domain.imports.targets import IMPORTS, Target
from worker.command.database import NOWHERE, Database, database
from worker.command.exit_codes import ExitCode
from worker.command.follow import RoomNotes, follow, progress
from worker.command.import_summary import Followed, Summary
from worker.command.output import JsonOption
from worker.importer import Importer

app = typer.Typer(no_args_is_help=True, add_completion=False)

File = Annotated[
    Path,
    typer.Argument(help="CSV, packed with gzip or not; UTF-8 or Windows-1252; , ; tab or |."),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN,…",
        help="Which column fills which field; a field not named takes the column of its own name.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="The same value in all rows."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check every row, hand over none; needs no server.")
]
NoWaitOption = Annotated[
    bool, typer.Option("--no-wait", help="End once all jobs are accepted, not when they finished.")
]
RejectsOption = Annotated[
    Path | None,
    typer.Option(help="CSV file to write the rows to that are in no job: line, code, reason, row."),
]
RunOption = Annotated[
    str,
    typer.Option(
        help="Another label makes another run of the same file, which is imported all over again."
    ),
]


def _fields(target: Target) -> str:
    fields = IMPORTS[target].fields.values()
    return ", ".join(field.name + ("" if field.required else "?") for field in fields)


_HELP = {
    Target.BATCHES: "Import batches, one a row.",
    Target.ORDERS: (
        "Import orders, one for all rows of an order_id, wherever they stand. A row that cannot be"
        " used is reported, and the other rows of its order still make an order. A line without a"
        " line_id gets its place among the order's rows."
    ),
    Target.USERS: "Import users, one a row.",
}


def _command(target: Target) -> Callable[..., None]:
    def run(
        file: File,
        *,
        columns: MapOption = None,
        constants: SetOption = None,
        dry_run: DryRunOption = False,
        no_wait: NoWaitOption = False,
        rejects: RejectsOption = None,
        label: RunOption = "",
        as_json: JsonOption = False,
    ) -> None:
        table = open_table(file)
        if rejects and rejects.resolve() == file.resolve():
            raise FileError("--rejects would overwrite the file that is imported")
        matched = Columns.match(
            table.header,
            IMPORTS[target].fields,
            mapped=_pairs(columns or ()),
            constants=_pairs(constants or ()),
        )
        with (
            database(url=NOWHERE if dry_run else None) as opened,
            _rejects_to(rejects, table) as rejected,
        ):
            importer = Importer(
                producer=opened.producer,
                table=table,
                target=IMPORTS[target],
                columns=matched,
                label=label,
                rejected=rejected,
                waits=RoomNotes(),
            )
            followed = _run(opened, importer, dry_run=dry_run, wait=not (no_wait or dry_run))
        summary = Summary.of(importer, followed, dry_run=dry_run)
        summary.show_json() if as_json else summary.show()
        if summary.is_flawed:
            raise typer.Exit(ExitCode.REFUSED)

    return run


for _target in Target:
    app.command(_target.value, help=f"{_HELP[_target]} Fields: {_fields(_target)}.")(
        _command(_target)
    )


def _run(opened: Database, importer: Importer, *, dry_run: bool, wait: bool) -> Followed | None:
    started = monotonic()
    with progress("rows", total=importer.table.lines) as show:
        if dry_run:
            importer.check(show)
        else:
            importer.hand_over(show)
    if not importer.account.balances:
        raise AssertionError(f"rows are not accounted for: {importer.account}")
    if not wait:
        return None
    run = importer.run
    follow(
        lambda: opened.jobs.open_jobs(correlation_id=run),
        total=importer.jobs,
        look_again=f"tallyman jobs counts --correlation-id {run}",
    )
    return Followed(
        seconds=monotonic() - started,
        states={each.state: each.jobs for each in opened.jobs.counts(correlation_id=run)},
        reasons=opened.jobs.reasons(run),
    )


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        # A comma parts two pairs only where a field's name follows: a column may hold one too.
        for pair in re.split(r",(?=\s*\w+\s*=)", text):
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not name or not equals:
                raise InvalidMapping(f"{pair.strip()!r} is not of the form field=value")
            if name in pairs:
                raise InvalidMapping(f"{name} is given twice")
            pairs[name] = value
    return pairs


@contextmanager
def _rejects_to(path: Path | None, table: TableFile) -> Iterator[Callable[[Reject], None]]:
    if path is None:
        yield lambda _: None
        return
    try:
        # For the owner alone: rows of users are personal data.
        file = open(path, "w", newline="", encoding="utf-8", opener=_private)  # noqa: SIM115  closed below
    except OSError as error:
        raise FileError(f"cannot write {path}: {error}") from error
    with file:
        writer = csv.writer(file)
        writer.writerow(("line", "code", "reason", *table.header))
        yield lambda reject: writer.writerow(
            (reject.line, reject.code, reject.reason, *reject.cells)
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
