"""Where a user stands, and what may follow."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class UserStatus(StrEnum):
    """Where a user stands."""

    PENDING = "pending"
    """Registered, not yet active."""
    ACTIVE = "active"
    """May use the service."""
    INACTIVE = "inactive"
    """Switched off, may come back."""
    BANNED = "banned"
    """Shut out for good."""
    ERASED = "erased"
    """Nothing that tells who it was is left; final, and reached by `users.erase` alone."""


TRANSITIONS: Mapping[UserStatus, frozenset[UserStatus]] = MappingProxyType(
    {
        UserStatus.PENDING: frozenset({UserStatus.ACTIVE}),
        UserStatus.ACTIVE: frozenset({UserStatus.INACTIVE, UserStatus.BANNED}),
        UserStatus.INACTIVE: frozenset({UserStatus.ACTIVE, UserStatus.BANNED}),
        UserStatus.BANNED: frozenset(),
        UserStatus.ERASED: frozenset(),
    }
)
"""What `users.change_status` may do; every status but `erased` can also be erased."""
