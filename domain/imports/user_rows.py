"""Rows of users: who is new is registered, and who is there is treated as the run says."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from domain.imports.ports import ImportWork
from domain.imports.reading import Item
from domain.imports.reporting import Reporter
from domain.imports.runs import OnExists, Report, RowEnd, Run
from domain.jobs.model import Request
from domain.jobs.outcomes import Outcome, Rejected, Succeeded
from domain.messages import Event
from domain.users.commands import RegisterUser, UpdateUser
from domain.users.identity import IdentityField, IdentityKey
from domain.users.model import Profile, User
from domain.users.ports import Users
from domain.users.services import register_users, update_users


class _Action(Enum):
    REGISTER = auto()
    UPDATE = auto()
    SKIP = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    """A row, and who it is about."""

    item: Item
    job_id: str
    """The job that the row would be alone: the id of a new user who has no other."""
    keys: tuple[IdentityKey, ...]

    @property
    def user_id(self) -> str:
        user_id: str | None = self.item.command.user_id
        return user_id or self.job_id

    @property
    def found_by(self) -> list[IdentityKey]:
        """Return what a user is found by, in the order in which it is looked at."""
        return [key for key in self.keys if key.field is not IdentityField.USERNAME]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What is to be done about a row."""

    person: _Person
    action: _Action
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRows:
    """Registers users, or updates them, in the order of the file."""

    run: Run
    work: ImportWork
    job_id: str
    personal: bool = True

    def take(self, items: Sequence[Item]) -> Report:
        people = [
            _Person(
                item=item,
                job_id=f"{self.run.id}-{item.rows[0].line:09d}",
                keys=Profile.of(item.command).keys,
            )
            for item in items
        ]
        present = self.work.users.matching(
            ids={person.user_id for person in people},
            keys={key for person in people for key in person.found_by},
        )
        known = _Known.of(present)
        reporter = Reporter(plan=self.run.plan)
        for segment in self._segments(people, known):
            for step, outcome in zip(segment, self._do(segment), strict=True):
                _count(reporter, step, outcome, known)
        return reporter.report

    def _segments(self, people: Sequence[_Person], known: "_Known") -> Iterator[list[_Step]]:
        """Cut rows into runs of the same action, none of which is about another of the run.

        Each is planned once those before it are done, so that every row meets the users as the
        rows before it left them.
        """
        segment: list[_Step] = []
        taken: set[IdentityKey] = set()
        for person in people:
            if segment and not taken.isdisjoint(person.found_by):
                yield segment
                segment, taken = [], set()
            step = self._plan(person, known)
            if segment and step.action is not segment[0].action:
                yield segment
                segment, taken = [], set()
                step = self._plan(person, known)
            segment.append(step)
            # Both who the user is from now on, and who it no longer is.
            taken.update((*person.keys, *known.keys.get(step.user_id, ())))
        if segment:
            yield segment

    def _plan(self, person: _Person, known: "_Known") -> _Step:
        user_id = known.match(person.user_id, person.found_by)
        match self.run.plan.on_exists:
            case OnExists.SKIP if user_id is not None:
                action = _Action.SKIP
            case OnExists.UPDATE if user_id is not None:
                action = _Action.UPDATE
            case OnExists.SKIP | OnExists.UPDATE | OnExists.FAIL:
                action = _Action.REGISTER
        return _Step(person=person, action=action, user_id=user_id or person.user_id)

    def _do(self, segment: Sequence[_Step]) -> Sequence[Outcome]:
        work = _InTheNameOf(self.work, self.job_id)
        match segment[0].action:
            case _Action.SKIP:
                return [Succeeded() for _ in segment]
            case _Action.REGISTER:
                return register_users(
                    [
                        Request(job_id=step.person.job_id, command=step.person.item.command)
                        for step in segment
                    ],
                    work,
                )
            case _Action.UPDATE:
                return update_users(
                    [
                        Request(job_id=step.person.job_id, command=_update_of(step))
                        for step in segment
                    ],
                    work,
                )


@dataclass(slots=True, kw_only=True)
class _Known:
    """Who is there, as the rows go along."""

    versions: dict[str, int] = field(default_factory=dict)
    """By user id."""
    holders: dict[IdentityKey, str] = field(default_factory=dict)
    """User id by key."""
    keys: dict[str, tuple[IdentityKey, ...]] = field(default_factory=dict)
    """By user id."""

    @classmethod
    def of(cls, users: Iterable[User]) -> "_Known":
        known = cls()
        for user in users:
            known.note(user.id, user.version, user.keys)
        return known

    def match(self, user_id: str, keys: Iterable[IdentityKey]) -> str | None:
        """Return the id of the user who is meant: by id, then external id, then email."""
        if user_id in self.versions:
            return user_id
        return next((self.holders[key] for key in keys if key in self.holders), None)

    def note(self, user_id: str, version: int, keys: Iterable[IdentityKey]) -> None:
        """Note who a user is now."""
        fields = {key.field for key in keys}
        kept = [key for key in self.keys.get(user_id, ()) if key.field not in fields]
        for key in self.keys.get(user_id, ()):
            self.holders.pop(key, None)
        self.keys[user_id] = (*keys, *kept)
        self.holders.update(dict.fromkeys(self.keys[user_id], user_id))
        self.versions[user_id] = version


class _InTheNameOf:
    """Users' work whose events are of the job that imports them, whatever user they are of."""

    def __init__(self, work: ImportWork, job_id: str) -> None:
        self._work = work
        self._job_id = job_id

    @property
    def users(self) -> Users:
        return self._work.users

    def record(self, job_id: str, events: Iterable[Event]) -> None:  # noqa: ARG002  whose it would be alone
        self._work.record(self._job_id, events)


def _count(reporter: Reporter, step: _Step, outcome: Outcome, known: "_Known") -> None:
    match outcome:
        case Rejected(error=error):
            reporter.refuse(step.person.item.rows, error)
        case Succeeded(result=result) if result:
            before = known.versions.get(result["user_id"])
            known.note(result["user_id"], result["version"], step.person.keys)
            if before is None:
                reporter.report.ends[RowEnd.CREATED] += 1
            else:
                changed = result["version"] != before
                reporter.report.ends[RowEnd.UPDATED if changed else RowEnd.UNCHANGED] += 1
        case Succeeded():
            reporter.report.ends[RowEnd.UNCHANGED] += 1


def _update_of(step: _Step) -> UpdateUser:
    command: RegisterUser = step.person.item.command
    return UpdateUser(
        user_id=step.user_id,
        username=command.username,
        email=command.email,
        name=command.name,
        external_id=command.external_id,
        password_hash=command.password_hash,
    )
