"""`tallyman users`: who is registered, and how each stands."""

from dataclasses import asdict
from typing import Annotated

import typer

from domain.users.errors import UserNotFound
from domain.users.status import UserStatus
from worker.command.database import database
from worker.command.output import (
    AfterOption,
    JsonOption,
    show_fields,
    show_json,
    show_table,
    tell_of_more,
)

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command("list")
def list_users(
    *,
    status: Annotated[UserStatus | None, typer.Option(help="Only users of this status.")] = None,
    after: AfterOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Users to show at the most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List users, the newest first; an email is cut at 100 characters."""
    with database() as opened:
        users = opened.users.newest(status=status, after=after, limit=limit)
    if as_json:
        show_json(users)
        return
    show_table(
        "Users",
        ("id", "status", "username", "email", "verified", "name", "created"),
        [
            (
                user.id,
                user.status,
                user.username,
                user.email,
                user.email_verified,
                user.name,
                user.created_at,
            )
            for user in users
        ],
    )
    tell_of_more([each.id for each in users], limit=limit)


@app.command()
def show(
    known_by: Annotated[
        str, typer.Argument(metavar="ID|EMAIL|USERNAME", help="Tried in this order.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show a user; an email is cut at 100 characters, and a password hash is never shown."""
    with database() as opened:
        user = opened.users.find(known_by)
    if user is None:
        raise UserNotFound.of(known_by)
    if as_json:
        show_json(user)
    else:
        show_fields(asdict(user))
