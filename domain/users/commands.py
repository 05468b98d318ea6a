"""What upstream systems ask of users.

A value that no user can have is refused when the command is built. `repr` leaves personal
data out, for a command may end up in a traceback.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from domain.messages import Command
from domain.users.email import EmailAddress
from domain.users.errors import InvalidUpdate
from domain.users.identity import Username, check_external_id, check_user_id, parse_name
from domain.users.password_hash import check_password_hash
from domain.users.status import UserStatus

Clearable = Literal["external_id", "password_hash"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterUser(Command):
    """Register a user, who starts as pending."""

    kind: ClassVar[str] = "users.register"

    username: str = field(repr=False)
    """1 to 50 characters, unique without regard to case."""
    email: str = field(repr=False)
    """Email address, unique without regard to case; kept as given, at most 254 characters."""
    name: str = field(repr=False)
    """The person's name, 1 to 200 characters."""
    user_id: str | None = None
    """Id of the new user, which must not be personal data; the job's id if left out."""
    external_id: str | None = field(default=None, repr=False)
    """Id under which an upstream system knows the user; unique."""
    password_hash: str | None = field(default=None, repr=False)
    """Password hash, argon2id in PHC form; never a password."""
    returning: bool = False
    """True where the person asked to come back, so that an erased address may be used again."""

    def __post_init__(self) -> None:
        Username.parse(self.username)
        EmailAddress.parse(self.email)
        parse_name(self.name)
        if self.user_id is not None:
            check_user_id(self.user_id)
        if self.external_id is not None:
            check_external_id(self.external_id)
        if self.password_hash is not None:
            check_password_hash(self.password_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateUser(Command):
    """Change the given fields of a user and no others; null is the same as left out."""

    kind: ClassVar[str] = "users.update"

    user_id: str
    """Id of the user."""
    username: str | None = field(default=None, repr=False)
    """New username, 1 to 50 characters."""
    email: str | None = field(default=None, repr=False)
    """New email address; it is unverified until confirmed."""
    name: str | None = field(default=None, repr=False)
    """New name, 1 to 200 characters."""
    external_id: str | None = field(default=None, repr=False)
    """New external id."""
    password_hash: str | None = field(default=None, repr=False)
    """New password hash, argon2id in PHC form; never a password."""
    email_verified: bool | None = None
    """Whether the address is confirmed: the one in this command, or else the present one."""
    clear: tuple[Clearable, ...] = ()
    """Names of fields to empty."""
    expected_version: int | None = None
    """Refuse with StaleVersion where the user is at another version."""

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        if self.username is not None:
            Username.parse(self.username)
        if self.email is not None:
            EmailAddress.parse(self.email)
        if self.name is not None:
            parse_name(self.name)
        if self.external_id is not None:
            check_external_id(self.external_id)
        if self.password_hash is not None:
            check_password_hash(self.password_hash)
        for name in self.clear:
            if getattr(self, name) is not None:
                raise InvalidUpdate.of(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeUserStatus(Command):
    """Give a user another status."""

    kind: ClassVar[str] = "users.change_status"

    user_id: str
    """Id of the user."""
    status: UserStatus
    """New status: active, inactive or banned; to erase a user is a job of its own."""
    expected_version: int | None = None
    """Refuse with StaleVersion where the user is at another version."""

    def __post_init__(self) -> None:
        check_user_id(self.user_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseUser(Command):
    """Remove all that tells who a user was, from the user and from the user's jobs; final."""

    kind: ClassVar[str] = "users.erase"

    user_id: str
    """Id of the user."""

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
