"""Users in memory, held to the real thing by the contract tests."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from domain.errors import StaleDecision
from domain.messages import Event
from domain.users.identity import Forgotten, IdentityKey
from domain.users.model import User


class FakeUsers:
    """Keeps copies, as a table does: what is not saved has not happened."""

    def __init__(self) -> None:
        self.rows: dict[str, User] = {}
        self.digests: set[bytes] = set()
        self.forgotten: list[Forgotten] = []
        self.calls: list[str] = []

    def matching(self, *, ids: Collection[str], keys: Collection[IdentityKey]) -> list[User]:
        self.calls.append("matching")
        return [
            _copy(row)
            for user_id, row in sorted(self.rows.items())
            if user_id in ids or not set(keys).isdisjoint(row.keys)
        ]

    def locked(self, ids: Collection[str]) -> dict[str, User]:
        self.calls.append("locked")
        return {each: _copy(self.rows[each]) for each in sorted(ids) if each in self.rows}

    def tombstones(self, digests: Collection[bytes]) -> set[bytes]:
        self.calls.append("tombstones")
        return self.digests & set(digests)

    def add(self, users: Sequence[User]) -> None:
        self.calls.append("add")
        for user in users:
            if user.id in self.rows or self._is_taken(user):
                message = "a new user holds a taken key"
                raise StaleDecision(message)
            self.rows[user.id] = _copy(user)

    def save(self, users: Sequence[User]) -> None:
        self.calls.append("save")
        for user in users:
            if user.id not in self.rows or self._is_taken(user):
                message = "a user takes a taken key, or is gone"
                raise StaleDecision(message)
            self.rows[user.id] = _copy(user)

    def forget(self, people: Sequence[Forgotten]) -> None:
        self.calls.append("forget")
        self.forgotten.extend(people)
        for person in people:
            self.digests |= person.digests

    def _is_taken(self, user: User) -> bool:
        return any(
            not set(user.keys).isdisjoint(row.keys)
            for row in self.rows.values()
            if row.id != user.id
        )


class FakeUsersWork:
    """A unit of work whose events can be looked at."""

    def __init__(self, users: FakeUsers | None = None) -> None:
        self.users = users or FakeUsers()
        self.recorded: list[tuple[str, Event]] = []

    def record(self, job_id: str, events: Iterable[Event]) -> None:
        self.recorded.extend((job_id, event) for event in events)


def _copy(user: User) -> User:
    return replace(user, events=[])
