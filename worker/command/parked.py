"""`tallyman parked`: look at messages that were no job, send them again, drop them."""

from base64 import b64decode
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import typer

from adapters.postgres.parked import ParkedMessages, ParkedView
from domain.errors import DomainError
from domain.jobs.errors import ParkedNotFound
from domain.jobs.parking import Form, Reason
from worker.app import configured
from worker.command.database import database
from worker.command.exit_codes import ExitCode
from worker.command.output import JsonOption, note, say, show_fields, show_json, show_table
from worker.requeuing import requeue

app = typer.Typer(no_args_is_help=True, add_completion=False)

MessageIds = Annotated[list[int] | None, typer.Argument(metavar="[ID…]")]
AllOption = Annotated[bool, typer.Option("--all", help="All open messages that fit.")]
ReasonOption = Annotated[Reason | None, typer.Option(help="Only messages parked for this reason.")]
QueueOption = Annotated[str | None, typer.Option(help="Only messages of this queue.")]


@app.command("list")
def list_parked(
    *,
    reason: ReasonOption = None,
    queue: QueueOption = None,
    closed: Annotated[bool, typer.Option("--all", help="Closed messages as well.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Messages to show at the most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List parked messages, the newest first."""
    with database() as opened:
        found = opened.parked.newest(reason=reason, queue=queue, closed=closed, limit=limit)
    if as_json:
        show_json([_describe(message) for message in found])
        return
    show_table(
        "Parked messages",
        ("id", "queue", "reason", "task", "message id", "copies", "parked", "closed as"),
        [
            (
                str(message.id),
                message.queue,
                message.reason,
                message.task,
                message.message_id,
                message.copies,
                message.parked_at,
                message.closed_as,
            )
            for message in found
        ],
    )


@app.command()
def show(
    message_id: Annotated[int, typer.Argument(metavar="ID")],
    *,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show what it holds, which may be of a person.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a parked message, and why it is no job."""
    with database() as opened:
        found = opened.parked.find(message_id)
    if found is None:
        raise ParkedNotFound.of(message_id)
    message, content = found
    known = _describe(message)
    if as_json:
        show_json({**known, "content": _readable(message, content)} if reveal else known)
        return
    show_fields({name: value for name, value in known.items() if value is not None})
    if reveal:
        say("\ncontent:")
        show_json(_readable(message, content))
    elif content is not None:
        note("what it holds may be of a person: --reveal shows it")


@app.command("requeue")
def requeue_parked(
    message_ids: MessageIds = None,
    *,
    everything: AllOption = False,
    reason: ReasonOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send messages to their queues again, as they came; what is still no job is parked again."""
    with database() as opened:
        done: list[int] = []
        refused: list[tuple[int, DomainError]] = []
        chosen = _chosen(opened.parked, message_ids, everything, reason, queue)
        celery = configured()
        for message_id in chosen:
            try:
                requeue(celery, opened.parked, message_id)
                done.append(message_id)
            except DomainError as error:
                refused.append((message_id, error))
    _tell("requeued", done, refused, as_json=as_json)


@app.command()
def drop(
    message_ids: MessageIds = None,
    *,
    everything: AllOption = False,
    reason: ReasonOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget what messages hold; that they came stays on record until retention."""
    with database() as opened:
        chosen = _chosen(opened.parked, message_ids, everything, reason, queue)
        done = opened.parked.drop(chosen)
    left = [message_id for message_id in chosen if message_id not in set(done)]
    refused = [(message_id, ParkedNotFound.of(message_id)) for message_id in left]
    _tell("dropped", done, refused, as_json=as_json)


def _chosen(
    parked: ParkedMessages,
    message_ids: Sequence[int] | None,
    everything: bool,
    reason: Reason | None,
    queue: str | None,
) -> list[int]:
    if bool(message_ids) == everything:
        raise typer.BadParameter("give ids, or --all with or without --reason and --queue")
    if message_ids and (reason or queue):
        raise typer.BadParameter("--reason and --queue go with --all")
    return list(dict.fromkeys(message_ids or parked.open_ids(reason=reason, queue=queue)))


def _describe(message: ParkedView) -> dict[str, Any]:
    return {
        "id": message.id,
        "queue": message.queue,
        "reason": message.reason,
        "detail": message.detail,
        "task": message.task,
        "message_id": message.message_id,
        "content_type": message.content_type,
        "form": message.form,
        "size": message.size,
        "kept": message.kept,
        "copies": message.copies,
        "parked_at": message.parked_at,
        "last_parked_at": message.last_parked_at,
        "closed_as": message.closed_as,
        "closed_at": message.closed_at,
    }


def _readable(message: ParkedView, content: bytes | None) -> object:
    """Return what a message holds; what is not UTF-8 in it is shown by its code."""
    if content is None:
        return None
    if message.form is Form.MESSAGE and len(content) == message.size:
        return _with_plain_body(orjson.loads(content))
    return content.decode(errors="backslashreplace")


def _with_plain_body(came: dict[str, Any]) -> dict[str, Any]:
    return {**came, "body": b64decode(came["body"]).decode(errors="backslashreplace")}


def _tell(
    verb: str,
    done: Sequence[int],
    refused: Sequence[tuple[int, DomainError]],
    *,
    as_json: bool,
) -> None:
    if as_json:
        show_json(
            {
                verb: done,
                "refused": [
                    {"id": message_id, "code": error.code, "reason": error.message}
                    for message_id, error in refused
                ],
            }
        )
    else:
        for message_id in done:
            say(f"{verb} {message_id}")
        for _, error in refused:
            note(f"error: {error}")
    if refused:
        not_found = all(isinstance(error, ParkedNotFound) for _, error in refused)
        raise typer.Exit(ExitCode.NOT_FOUND if not_found and not done else ExitCode.REFUSED)
