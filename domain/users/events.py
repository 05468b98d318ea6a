"""What has happened to users; ids only, no personal data."""

from dataclasses import dataclass

from domain.messages import Event
from domain.users.status import UserStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvent(Event):
    """Something that happened to a user."""

    user_id: str
    """Id of the user."""
    version: int
    """Version of the user from this event on."""

    @property
    def aggregate(self) -> str:
        return f"user:{self.user_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRegistered(UserEvent):
    """A user was registered and is pending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUpdated(UserEvent):
    """Fields of a user have new values."""

    changed: tuple[str, ...]
    """Names of these fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserStatusChanged(UserEvent):
    """A user has another status."""

    before: UserStatus
    """Status until now."""
    after: UserStatus
    """Status from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserErased(UserEvent):
    """A user was erased: whoever holds data of this user must remove it too."""
