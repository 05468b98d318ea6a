"""A user: who it is, where it stands, and which changes it allows."""

from dataclasses import dataclass, field, fields, replace
from typing import Self

from domain.messages import Event
from domain.users.commands import RegisterUser, UpdateUser
from domain.users.email import EmailAddress
from domain.users.errors import InvalidStatusTransition, StaleVersion, UserIsErased
from domain.users.events import UserErased, UserRegistered, UserStatusChanged, UserUpdated
from domain.users.identity import Forgotten, IdentityField, IdentityKey, Username, parse_name
from domain.users.status import TRANSITIONS, UserStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """All that tells who a user is."""

    username: Username
    email: EmailAddress
    name: str = field(repr=False)
    external_id: str | None = field(default=None, repr=False)
    password_hash: str | None = field(default=None, repr=False)
    email_verified: bool = False

    @classmethod
    def of(cls, command: RegisterUser) -> Self:
        return cls(
            username=Username.parse(command.username),
            email=EmailAddress.parse(command.email),
            name=parse_name(command.name),
            external_id=command.external_id,
            password_hash=command.password_hash,
        )

    @property
    def keys(self) -> tuple[IdentityKey, ...]:
        """What no other user may hold, in the order in which it is looked at."""
        external = (
            ()
            if self.external_id is None
            else (IdentityKey(IdentityField.EXTERNAL_ID, self.external_id),)
        )
        return (
            *external,
            IdentityKey(IdentityField.EMAIL, self.email.key),
            IdentityKey(IdentityField.USERNAME, self.username.key),
        )

    def says_the_same_as(self, other: Self) -> bool:
        """Compare who it is, leaving out how the person proves it."""
        return (self.username, self.email, self.name, self.external_id) == (
            other.username,
            other.email,
            other.name,
            other.external_id,
        )

    def revised(self, command: UpdateUser) -> Self:
        """Take over what the command gives; a new email is unverified unless it says otherwise."""
        email = self.email if command.email is None else EmailAddress.parse(command.email)
        verified = self.email_verified and email.key == self.email.key
        return replace(
            self,
            username=self.username
            if command.username is None
            else Username.parse(command.username),
            email=email,
            name=self.name if command.name is None else parse_name(command.name),
            external_id=None
            if "external_id" in command.clear
            else command.external_id or self.external_id,
            password_hash=None
            if "password_hash" in command.clear
            else command.password_hash or self.password_hash,
            email_verified=verified if command.email_verified is None else command.email_verified,
        )

    def differences(self, other: Self) -> tuple[str, ...]:
        """Name the fields whose values are not the same."""
        return tuple(
            each.name
            for each in fields(self)
            if getattr(self, each.name) != getattr(other, each.name)
        )


@dataclass(slots=True, kw_only=True, eq=False)
class User:
    """A user, the same as another if their ids are; erased users have no profile."""

    id: str
    status: UserStatus
    version: int
    profile: Profile | None = field(repr=False)
    events: list[Event] = field(default_factory=list, repr=False)
    """What happened since the user was read, not yet recorded."""

    @classmethod
    def register(cls, *, user_id: str, profile: Profile) -> Self:
        user = cls(id=user_id, status=UserStatus.PENDING, version=1, profile=profile)
        user.events.append(UserRegistered(user_id=user_id, version=1))
        return user

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, User) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def known(self) -> Profile:
        """The profile of a user who is not erased.

        Raises:
            UserIsErased: There is none any more.
        """
        if self.profile is None:
            raise UserIsErased.of(self.id)
        return self.profile

    @property
    def keys(self) -> tuple[IdentityKey, ...]:
        return () if self.profile is None else self.profile.keys

    @property
    def traces(self) -> Forgotten:
        """What to look for when the user is forgotten.

        Raises:
            UserIsErased: Nothing is known any more.
        """
        return Forgotten(
            user_id=self.id, email=self.known.email.given, keys=frozenset(self.known.keys)
        )

    def expect(self, version: int | None) -> None:
        """Refuse a decision made on another version; None is made on any.

        Raises:
            UserIsErased: No decision can be made any more.
            StaleVersion: The user has changed since.
        """
        if self.status is UserStatus.ERASED:
            raise UserIsErased.of(self.id)
        if version is not None and version != self.version:
            raise StaleVersion.of(self.id, expected=version, actual=self.version)

    def update(self, revised: Profile) -> None:
        """Be who the revised profile says.

        Raises:
            UserIsErased: The user was erased.
        """
        changed = self.known.differences(revised)
        if not changed:
            return
        self.profile = revised
        self.version += 1
        self.events.append(UserUpdated(user_id=self.id, version=self.version, changed=changed))

    def change_status(self, status: UserStatus) -> None:
        """Move to another status.

        Raises:
            UserIsErased: The user was erased.
            InvalidStatusTransition: This status does not follow the present one.
        """
        self.expect(None)
        if status is self.status:
            return
        allowed = TRANSITIONS[self.status]
        if status not in allowed:
            raise InvalidStatusTransition.of(
                self.id, before=self.status, after=status, allowed=sorted(allowed)
            )
        before, self.status = self.status, status
        self.version += 1
        self.events.append(
            UserStatusChanged(user_id=self.id, version=self.version, before=before, after=status)
        )

    def erase(self) -> None:
        """Keep the id and lose everything that tells who it was."""
        if self.status is UserStatus.ERASED:
            return
        self.status = UserStatus.ERASED
        self.profile = None
        self.version += 1
        self.events.append(UserErased(user_id=self.id, version=self.version))
