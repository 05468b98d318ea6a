"""Users and commands for tests, with as little said as each test needs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from domain.jobs.model import Request
from domain.jobs.outcomes import Outcome, Rejected, Succeeded
from domain.messages import Command
from domain.users.commands import ChangeUserStatus, EraseUser, RegisterUser, UpdateUser
from domain.users.model import Profile, User
from domain.users.services import (
    change_user_statuses,
    erase_users,
    register_users,
    update_users,
)
from domain.users.status import UserStatus

Handler = Callable[[Sequence[Request[Any]], Any], Sequence[Outcome]]

PASSWORD_HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21l$RdescudvJCsgt3ub+b4dWRWJTmaaJObG"


def a_registration(who: str = "ada", /, **given: Any) -> RegisterUser:
    return RegisterUser(
        **{
            "username": who,
            "email": f"{who}@example.com",
            "name": who.title(),
            "user_id": who,
            **given,
        }
    )


def a_user(
    who: str = "ada",
    /,
    *,
    status: UserStatus = UserStatus.PENDING,
    version: int = 1,
    **given: Any,
) -> User:
    return User(
        id=who,
        status=status,
        version=version,
        profile=Profile.of(a_registration(who, **given)),
    )


def requests(*commands: Command) -> list[Request[Any]]:
    return [
        Request(job_id=f"job-{number}", command=command)
        for number, command in enumerate(commands, start=1)
    ]


def codes(outcomes: Sequence[Outcome]) -> list[str]:
    """Shorten outcomes to the error's name, or `ok`."""
    return [outcome.error.code if isinstance(outcome, Rejected) else "ok" for outcome in outcomes]


def results(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [dict(outcome.result) for outcome in outcomes if isinstance(outcome, Succeeded)]


class Batch(NamedTuple):
    """Commands of one kind and what handles them."""

    handler: Handler
    requests: list[Request[Any]]


_NAMES = ["ada", "Ada", "bob", "cyd", "ÉVE", "éve"]
_names = st.sampled_from(_NAMES)
_ids = st.sampled_from(["1", "2", "3", "4"])
_emails = st.sampled_from(
    [f"{name}@example.com" for name in _NAMES] + ["ada@münchen.example", "ADA@MÜNCHEN.example"]
)
_external_ids = st.sampled_from(["x1", "x2", "x3"])
_versions = st.none() | st.integers(1, 4)
_maybe = st.none

_commands: list[tuple[Handler, st.SearchStrategy[Any]]] = [
    (
        register_users,
        st.builds(
            RegisterUser,
            username=_names,
            email=_emails,
            name=_names,
            user_id=_maybe() | _ids,
            external_id=_maybe() | _external_ids,
            password_hash=_maybe() | st.just(PASSWORD_HASH),
            returning=st.booleans(),
        ),
    ),
    (
        update_users,
        st.builds(
            UpdateUser,
            user_id=_ids,
            username=_maybe() | _names,
            email=_maybe() | _emails,
            name=_maybe() | _names,
            external_id=_maybe() | _external_ids,
            email_verified=_maybe() | st.booleans(),
            clear=st.sampled_from([(), ("password_hash",)]),
            expected_version=_versions,
        ),
    ),
    (
        change_user_statuses,
        st.builds(
            ChangeUserStatus,
            user_id=_ids,
            status=st.sampled_from(UserStatus),
            expected_version=_versions,
        ),
    ),
    (erase_users, st.builds(EraseUser, user_id=_ids)),
]


@st.composite
def batches(draw: st.DrawFn) -> list[Batch]:
    """Draw a history: batches of commands over few ids, names and addresses, so they collide."""
    histories = st.lists(st.sampled_from(_commands), min_size=1, max_size=8)
    history = []
    for number, (handler, command) in enumerate([_commands[0], *draw(histories)]):
        commands = draw(st.lists(command, min_size=1, max_size=6))
        history.append(
            Batch(
                handler,
                [
                    Request(job_id=f"job-{number}-{place}", command=command)
                    for place, command in enumerate(commands)
                ],
            )
        )
    return history
