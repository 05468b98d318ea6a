"""`tallyman submit`: hand over one job, or one a line."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from domain.imports.errors import FileError
from domain.jobs.errors import QueueFull, UnknownKind
from domain.jobs.model import JobState
from domain.kinds import KINDS
from worker.command.database import Database, database
from worker.command.exit_codes import ExitCode
from worker.command.follow import OpenAmong, RoomNotes, follow
from worker.command.job_details import describe, show_job
from worker.command.jsonl import (
    AcceptedLine,
    Line,
    RefusedLine,
    accept,
    accept_what_can_be,
    decode,
    read,
)
from worker.command.output import JsonOption, fail, note, say, show_json, show_table
from worker.handing_over import Patience
from worker.producer import CHUNK

SHOWN_LINES = 20


def submit(
    kind: Annotated[str, typer.Argument(help="Job kind, such as allocation.create_batch.")],
    payload: Annotated[
        str | None, typer.Argument(help="The payload as JSON; - reads it from stdin.")
    ] = None,
    *,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            help="File with a job a line, - for stdin: a payload, or"
            ' {"id": …, "priority": …, "correlation_id": …, "payload": {…}}.'
        ),
    ] = None,
    job_id: Annotated[
        str | None,
        typer.Option("--id", help="Id of the job; the same id again does nothing again."),
    ] = None,
    priority: Annotated[int, typer.Option(min=0, max=9, help="9 is the most urgent.")] = 0,
    correlation_id: Annotated[
        str | None, typer.Option(help="What the jobs belong to; their own ids if not given.")
    ] = None,
    all_or_nothing: Annotated[
        bool,
        typer.Option(
            "--all-or-nothing",
            help=f"Accept all lines or none, in one transaction of at most {CHUNK:,} jobs.",
        ),
    ] = False,
    wait_for_room: Annotated[
        int,
        typer.Option(
            min=0, metavar="SECONDS", help="How long to wait for room where the queue is full."
        ),
    ] = 0,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the jobs have finished.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Hand over jobs: once this returns they are accepted and cannot be lost."""
    if kind not in KINDS:
        raise UnknownKind.of(kind, sorted(KINDS))
    if (payload is None) == (jsonl is None):
        raise typer.BadParameter("give a payload, or --jsonl with a file of them")
    if jsonl is not None and job_id is not None:
        raise typer.BadParameter('--id is for one job; give lines ids as {"id": …, "payload": {…}}')
    with database() as opened:
        patience = Patience(
            producer=opened.producer,
            seconds=wait_for_room,
            is_whole=all_or_nothing,
            waits=RoomNotes(),
        )
        if payload is not None:
            submission = opened.producer.submission(
                kind,
                decode(sys.stdin.read() if payload == "-" else payload),
                job_id=job_id,
                priority=priority,
                correlation_id=correlation_id,
            )
            receipt = patience.submit(submission)
            _show_one(opened, receipt.job_id, is_new=receipt.is_new, wait=wait, as_json=as_json)
        elif jsonl is not None:
            with _lines_of(jsonl) as lines:
                read_lines = read(
                    lines,
                    opened.producer,
                    kind,
                    priority=priority,
                    correlation_id=correlation_id,
                )
                result = _accept(patience, read_lines, all_or_nothing=all_or_nothing)
            _show_many(opened, result, wait=wait, as_json=as_json)


@contextmanager
def _lines_of(path: Path) -> Iterator[Iterable[bytes]]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise FileError(f"cannot read {path}: {error}") from error
    with file:
        yield file


@dataclass(kw_only=True)
class _Result:
    """What became of the lines of a file."""

    accepted: list[AcceptedLine] = field(default_factory=list)
    refused: list[RefusedLine] = field(default_factory=list)
    full: QueueFull | None = None
    """Why lines are left that were not handed over."""


def _accept(
    patience: Patience, lines: Iterator[Line | RefusedLine], *, all_or_nothing: bool
) -> _Result:
    result = _Result()
    while chunk := list(islice(lines, CHUNK)):
        good = [line for line in chunk if isinstance(line, Line)]
        result.refused += [line for line in chunk if isinstance(line, RefusedLine)]
        if all_or_nothing:
            if next(lines, None) is not None:
                raise typer.BadParameter(f"--all-or-nothing takes at most {CHUNK:,} lines")
            if not result.refused:
                result.accepted, result.full = accept(patience, good)
            return result
        accepted, refused, result.full = accept_what_can_be(patience, good)
        result.accepted += accepted
        result.refused += refused
        if result.full:
            break
    result.refused.sort(key=lambda line: line.line)
    return result


def _show_one(opened: Database, job_id: str, *, is_new: bool, wait: bool, as_json: bool) -> None:
    if wait:
        follow(OpenAmong(opened.jobs, [job_id]), total=1, look_again=f"tallyman jobs show {job_id}")
    job = opened.jobs.find(job_id)
    assert job is not None  # noqa: S101  it was accepted
    if as_json:
        show_json({"is_new": is_new, **describe(job)})
    elif wait:
        show_job(job)
    else:
        say(job_id)
        note("accepted" if is_new else f"known already: {job.state}; nothing was done")
    # Whose job is new and who waits for nothing is told that it is accepted, however soon a worker
    # refuses it.
    if (wait or not is_new) and job.state in _FAILED:
        raise typer.Exit(ExitCode.REFUSED)


def _show_many(opened: Database, result: _Result, *, wait: bool, as_json: bool) -> None:
    accepted, refused = result.accepted, result.refused
    states = {line.receipt.job_id: line.receipt.state for line in accepted}
    if wait and states:
        open_among = OpenAmong(opened.jobs, list(states))
        follow(open_among, total=len(states), look_again="tallyman jobs counts")
        states |= open_among.states
    if as_json:
        show_json(
            {
                "jobs": [
                    {
                        "line": line.line,
                        "job_id": line.receipt.job_id,
                        "is_new": line.receipt.is_new,
                        "state": states[line.receipt.job_id],
                    }
                    for line in accepted
                ],
                "refused": list(refused),
            }
        )
    else:
        _tell(states, accepted, refused)
    if result.full:
        last = max((line.line for line in accepted), default=0)
        fail(f"{result.full}; lines after {last:,} were not handed over", ExitCode.FULL)
    failed = [state for state in states.values() if state in _FAILED]
    if refused or failed:
        raise typer.Exit(ExitCode.REFUSED)


_FAILED = frozenset({JobState.REJECTED, JobState.DEAD, JobState.CANCELLED})


def _tell(
    states: dict[str, JobState], accepted: Sequence[AcceptedLine], refused: Sequence[RefusedLine]
) -> None:
    new = sum(line.receipt.is_new for line in accepted)
    say(f"{new:,} accepted, {len(accepted) - new:,} known already, {len(refused):,} refused")
    rows: list[tuple[Any, ...]] = sorted(Counter(states.values()).items())
    if rows:
        show_table("Jobs", ("state", "jobs"), rows)
    if refused:
        show_table(
            f"Refused lines{'' if len(refused) <= SHOWN_LINES else f', the first {SHOWN_LINES}'}",
            ("line", "code", "reason"),
            [(line.line, line.code, line.reason) for line in refused[:SHOWN_LINES]],
        )
