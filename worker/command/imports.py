"""`tallyman import`: files of batches, orders or users."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from adapters.files.opening import open_table
from adapters.files.tables import Table
from adapters.payloads import Payloads
from domain.imports.columns import Columns
from domain.imports.errors import FileError, InvalidMapping
from domain.imports.runs import OnExists, Plan, RowError, RowPolicy, RunState
from domain.imports.skips import SkipRule, Test
from domain.imports.targets import IMPORTS, Target
from domain.kinds import KINDS
from worker.command.database import database
from worker.command.exit_codes import ExitCode
from worker.command.follow import follow_run, found, progress
from worker.command.import_summary import Reasons, Summary
from worker.command.output import JsonOption, say
from worker.command.rejects import Rejected, rejects_to
from worker.importer import check_file, take_file

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
DefaultOption = Annotated[
    list[str] | None,
    typer.Option("--default", metavar="FIELD=VALUE", help="The value where a cell is empty."),
]
SkipOption = Annotated[
    list[str] | None,
    typer.Option(
        "--skip",
        metavar="COLUMN=TEXT[:REASON]",
        help="Rows to leave out, counted apart: = is equal, ^= starts with, ~= matches a pattern.",
    ),
]
PolicyOption = Annotated[
    RowPolicy,
    typer.Option(help="What bad rows mean: they are rejected alone, or the whole file is."),
]
MaxErrorsOption = Annotated[
    int | None, typer.Option(min=0, help="Stop once more rows than this have failed.")
]
OnExistsOption = Annotated[
    OnExists, typer.Option(help="What becomes of a user who is there already.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check every row, import none; needs no server.")
]
NoWaitOption = Annotated[
    bool,
    typer.Option("--no-wait", help="End once all rows are on record, not when they are imported."),
]
RejectsOption = Annotated[
    Path | None,
    typer.Option(
        help="CSV file to write the rows to that had no effect: line, column, code, message, value."
    ),
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
        "Import orders in the order of the file, one for all rows of an order_id within 5,000 rows"
        " or so. A row that cannot be used is reported, and the other rows of its order still make"
        " an order. A line without a line_id gets its place among the order's rows."
    ),
    Target.USERS: "Import users, one a row.",
}


def _command(target: Target) -> Callable[..., None]:
    def run(
        file: File,
        *,
        columns: MapOption = None,
        constants: SetOption = None,
        defaults: DefaultOption = None,
        skips: SkipOption = None,
        policy: PolicyOption = RowPolicy.REJECT_ROWS,
        max_errors: MaxErrorsOption = None,
        on_exists: OnExistsOption = OnExists.FAIL,
        dry_run: DryRunOption = False,
        no_wait: NoWaitOption = False,
        rejects: RejectsOption = None,
        label: RunOption = "",
        as_json: JsonOption = False,
    ) -> None:
        table = open_table(file)
        if rejects and rejects.resolve() == file.resolve():
            raise FileError("--rejects would overwrite the file that is imported")
        if on_exists is not OnExists.FAIL and target is not Target.USERS:
            raise typer.BadParameter(f"--on-exists is for users, not for {target}")
        plan = Plan(
            target=target,
            header=table.header,
            columns=Columns.match(
                table.header,
                IMPORTS[target].fields,
                mapped=_pairs(columns or ()),
                constants=_pairs(constants or ()),
                defaults=_pairs(defaults or ()),
            ),
            skips=tuple(_skip(text) for text in skips or ()),
            policy=policy,
            max_errors=max_errors,
            dry_run=dry_run,
            on_exists=on_exists,
        )
        with rejects_to(rejects) as rejected:
            summary = (
                _check(table, plan, rejected)
                if dry_run
                else _import(table, plan, rejected, label=label, wait=not no_wait)
            )
        summary.show_json() if as_json else summary.show()
        if dry_run and not as_json:
            say("a dry run: nothing was imported")
        if summary.is_flawed:
            raise typer.Exit(ExitCode.REFUSED)

    return run


for _target in Target:
    app.command(_target.value, help=f"{_HELP[_target]} Fields: {_fields(_target)}.")(
        _command(_target)
    )


def _check(table: Table, plan: Plan, rejected: Rejected) -> Summary:
    reasons = Reasons()

    def told(error: RowError) -> None:
        reasons(error)
        rejected(error)

    with progress("rows", total=table.lines) as show:
        report = check_file(
            table, plan, decode=Payloads(KINDS).decode, rejected=told, progressed=show
        )
    return Summary(
        run_id=None,
        file=table.name,
        state=RunState.FINISHED,
        rows=sum(report.ends.values()),
        ends={end.value: rows for end, rows in report.ends.items()},
        skipped=report.skipped,
        reasons=reasons.counts(),
    )


def _import(table: Table, plan: Plan, rejected: Rejected, *, label: str, wait: bool) -> Summary:
    started = monotonic()
    with database() as opened:
        with progress("rows read", total=table.lines) as show:
            taken = take_file(
                table, plan, begin_work=opened.begin_work, label=label, progressed=show
            )
        run = follow_run(opened.imports, taken.run_id) if wait else None
        seconds = monotonic() - started if run else None
        run = run or found(opened.imports, taken.run_id)
        for error in opened.imports.errors(run.id):
            rejected(error)
        reasons = opened.imports.reasons(run.id)
    return Summary.of(run, reasons, seconds=seconds, is_new=taken.is_new)


_SKIP = re.compile(r"(?P<column>.+?)(?P<test>\^=|~=|=)(?P<text>.*?)(?::(?P<reason>[^:]+))?")
_TESTS = {"=": Test.EQUALS, "^=": Test.STARTS_WITH, "~=": Test.MATCHES}


def _skip(text: str) -> SkipRule:
    rule = _SKIP.fullmatch(text)
    if rule is None:
        raise InvalidMapping(
            f"{text!r} is not of the form COLUMN=TEXT, COLUMN^=START or COLUMN~=PATTERN,"
            " with :REASON behind it if you like"
        )
    column, test, compared = (rule[name].strip() for name in ("column", "test", "text"))
    return SkipRule(
        column=column,
        test=_TESTS[test],
        text=compared,
        reason=(rule["reason"] or f"{column} {_TESTS[test].replace('_', ' ')} {compared}").strip(),
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
