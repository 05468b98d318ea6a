"""What each job kind of users does: a batch in, one outcome for each command out.

The commands of a batch act as if one after the other; reads and writes take them together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from domain.errors import DomainError
from domain.jobs.model import Request
from domain.jobs.outcomes import Outcome, Rejected, Succeeded
from domain.messages import Command
from domain.users.commands import ChangeUserStatus, EraseUser, RegisterUser, UpdateUser
from domain.users.directory import Directory
from domain.users.email import EmailAddress
from domain.users.errors import ExternalIdTaken, UserConflict, UserIsErased, UserNotFound
from domain.users.identity import Forgotten, IdentityKey
from domain.users.model import Profile, User
from domain.users.ports import UsersWork

C = TypeVar("C", bound=Command)


def register_users(requests: Sequence[Request[RegisterUser]], work: UsersWork) -> list[Outcome]:
    """Register users; one that is registered already, with the same contents, is answered.

    Raises:
        StaleDecision: Somebody else took an id or a key meanwhile; decide again.
    """
    candidates = {request.job_id: _candidate(request) for request in requests}
    keys = {key for candidate in candidates.values() for key in candidate.keys}
    # In this order: whoever is erased while the first read waits has a tombstone in the second.
    present = work.users.matching(ids={user.id for user in candidates.values()}, keys=keys)
    erased = work.users.tombstones({key.digest for key in keys if key.outlives_its_user})
    directory = Directory(present, erased=erased)
    users = {user.id: user for user in present}
    added: list[User] = []

    def register(request: Request[RegisterUser]) -> User:
        candidate = candidates[request.job_id]
        user = users.get(candidate.id)
        if user is not None:
            if not user.known.says_the_same_as(candidate.known):
                raise UserConflict.of(user.id)
            return user
        directory.check_free(
            candidate.keys, user_id=candidate.id, returning=request.command.returning
        )
        directory.enter(candidate)
        users[candidate.id] = candidate
        added.append(candidate)
        return candidate

    outcomes = _answer(requests, register, work)
    if added:
        work.users.add(added)
    return outcomes


def update_users(requests: Sequence[Request[UpdateUser]], work: UsersWork) -> list[Outcome]:
    """Change the given fields of users.

    Raises:
        StaleDecision: Somebody else took a key meanwhile; decide again.
    """
    users = work.users.locked({request.command.user_id for request in requests})
    wanted = {
        key
        for request in requests
        if (user := users.get(request.command.user_id)) and user.profile
        for key in _new_keys(user, user.profile.revised(request.command))
    }
    holders = work.users.matching(ids=(), keys=wanted)
    erased = work.users.tombstones({key.digest for key in wanted if key.outlives_its_user})
    directory = Directory([*holders, *users.values()], erased=erased)
    changed: dict[str, User] = {}

    def update(request: Request[UpdateUser]) -> User:
        user = _found(users, request.command.user_id)
        user.expect(request.command.expected_version)
        revised = user.known.revised(request.command)
        taken = _new_keys(user, revised)
        # Nobody is brought back by a change to a user who is there, so an erased email may do.
        directory.check_free(taken, user_id=user.id, returning=True)
        if directory.passes_on(taken):
            # One statement cannot hand a unique key from row to row.
            work.users.save(list(changed.values()))
            changed.clear()
            directory.settle()
        directory.release(key for key in user.keys if key not in revised.keys)
        user.update(revised)
        directory.enter(user)
        if user.events:
            changed[user.id] = user
        return user

    outcomes = _answer(requests, update, work)
    if changed:
        work.users.save(list(changed.values()))
    return outcomes


def change_user_statuses(
    requests: Sequence[Request[ChangeUserStatus]], work: UsersWork
) -> list[Outcome]:
    """Move users to other statuses."""
    users = work.users.locked({request.command.user_id for request in requests})
    changed: dict[str, User] = {}

    def change_status(request: Request[ChangeUserStatus]) -> User:
        user = _found(users, request.command.user_id)
        user.expect(request.command.expected_version)
        user.change_status(request.command.status)
        if user.events:
            changed[user.id] = user
        return user

    outcomes = _answer(requests, change_status, work)
    if changed:
        work.users.save(list(changed.values()))
    return outcomes


def erase_users(requests: Sequence[Request[EraseUser]], work: UsersWork) -> list[Outcome]:
    """Erase users and what their finished jobs tell of them; once more changes nothing."""
    users = work.users.locked({request.command.user_id for request in requests})
    erased: list[User] = []
    people: list[Forgotten] = []

    def erase(request: Request[EraseUser]) -> User:
        user = _found(users, request.command.user_id)
        if user.profile is not None:
            people.append(user.traces)
            erased.append(user)
            user.erase()
        return user

    outcomes = _answer(requests, erase, work)
    if erased:
        work.users.save(erased)
        work.users.forget(people)
    return outcomes


def _answer(
    requests: Sequence[Request[C]], decide: Callable[[Request[C]], User], work: UsersWork
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for request in requests:
        try:
            user = decide(request)
        except DomainError as error:
            outcomes.append(
                Rejected(error=error, forget_payload=_must_forget(request.command, error))
            )
            continue
        if user.events:
            work.record(request.job_id, tuple(user.events))
            user.events.clear()
        outcomes.append(
            Succeeded(
                result={
                    "user_id": user.id,
                    "status": user.status.value,
                    "version": user.version,
                }
            )
        )
    return outcomes


def _must_forget(command: Command, error: DomainError) -> bool:
    """Tell whether the payload speaks of somebody whose erasure would not, or did not, find it.

    An erasure finds jobs by user id and by lower-cased address.
    """
    if isinstance(error, UserIsErased | ExternalIdTaken):
        return True
    email = command.email if isinstance(command, RegisterUser | UpdateUser) else None
    return email is not None and email.lower() != EmailAddress.parse(email).key


def _candidate(request: Request[RegisterUser]) -> User:
    return User.register(
        user_id=request.command.user_id or request.job_id, profile=Profile.of(request.command)
    )


def _found(users: Mapping[str, User], user_id: str) -> User:
    if user_id not in users:
        raise UserNotFound.of(user_id)
    return users[user_id]


def _new_keys(user: User, revised: Profile) -> list[IdentityKey]:
    return [key for key in revised.keys if key not in user.keys]
