"""What the services of users need from outside."""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from domain.messages import Event
from domain.users.identity import Forgotten, IdentityKey
from domain.users.model import User


class Users(Protocol):
    """Every user, within one transaction; each call takes a whole batch."""

    def matching(self, *, ids: Collection[str], keys: Collection[IdentityKey]) -> Sequence[User]:
        """Return the users that have one of these ids or hold one of these keys.

        They stay as they are until the transaction ends: who is refused because of one of
        them is refused because of what is true, and an erasure waits until that is recorded.
        """

    def locked(self, ids: Collection[str]) -> dict[str, User]:
        """Lock these users in id order; return them by id, without those that do not exist."""

    def tombstones(self, digests: Collection[bytes]) -> set[bytes]:
        """Return those of these digests that are of erased people."""

    def add(self, users: Sequence[User]) -> None:
        """Write new users.

        Raises:
            StaleDecision: Somebody holds one of the ids or keys by now. At the latest when the
                work is committed.
        """

    def save(self, users: Sequence[User]) -> None:
        """Write locked users as they are now; no two of them pass on a key to each other.

        Raises:
            StaleDecision: Somebody holds one of the keys by now, or a user is gone.
        """

    def forget(self, people: Sequence[Forgotten]) -> None:
        """Leave a tombstone for each and scrub their finished jobs: payload, result, errors."""


class UsersWork(Protocol):
    """The slice of a unit of work that users need."""

    @property
    def users(self) -> Users: ...

    def record(self, job_id: str, events: Iterable[Event]) -> None:
        """Write events to the outbox, as caused by this job."""
