"""What the users domain says no with.

Errors are shown in logs and in Flower, so none carries a username, an address or a name:
they tell the field and the user's id.
"""

from typing import Self

from domain.errors import DomainError


class InvalidUserValue(DomainError):
    """A value in the command is not one that a user can have."""

    field: str

    @classmethod
    def because(cls, rule: str) -> Self:
        """Say which rule the value breaks, never the value."""
        return cls(f"{cls.field} {rule}; correct it and submit again", {"field": cls.field})


class InvalidUserId(InvalidUserValue):
    """The user id is empty, too long or not printable."""

    field = "user_id"


class InvalidExternalId(InvalidUserValue):
    """The external id is empty, too long or not printable."""

    field = "external_id"


class InvalidUsername(InvalidUserValue):
    """The username is empty, too long or not printable."""

    field = "username"


class InvalidEmail(InvalidUserValue):
    """The address is not one that mail can be sent to."""

    field = "email"


class InvalidName(InvalidUserValue):
    """The name is empty, too long or holds control characters."""

    field = "name"


class InvalidPasswordHash(InvalidUserValue):
    """The password hash is not argon2id in PHC form."""

    field = "password_hash"


class InvalidUpdate(DomainError):
    """The update contradicts itself."""

    @classmethod
    def of(cls, field: str) -> Self:
        return cls(
            f"{field} is both given and in `clear`; leave out one of the two", {"field": field}
        )


class IdentityTaken(DomainError):
    """Another user holds this identity."""

    field: str

    @classmethod
    def by(cls, holder_id: str) -> Self:
        return cls(
            f"{cls.field} is already that of user {holder_id!r};"
            f" choose another {cls.field}, or update that user",
            {"field": cls.field, "held_by": holder_id},
        )


class EmailTaken(IdentityTaken):
    """Another user holds this email address."""

    field = "email"


class UsernameTaken(IdentityTaken):
    """Another user holds this username."""

    field = "username"


class ExternalIdTaken(IdentityTaken):
    """Another user holds this external id."""

    field = "external_id"


class UserNotFound(DomainError):
    """No user has this id."""

    @classmethod
    def of(cls, user_id: str) -> Self:
        return cls(
            f"there is no user {user_id!r}; register the user first, or check the id",
            {"user_id": user_id},
        )


class UserIsErased(DomainError):
    """The person was erased, which is final."""

    @classmethod
    def of(cls, user_id: str) -> Self:
        return cls(
            f"user {user_id!r} was erased, which is final; stop sending jobs for this user",
            {"user_id": user_id},
        )

    @classmethod
    def known_by(cls, field: str) -> Self:
        return cls(
            f"{field} is that of a person who was erased; leave the record out"
            " (a person who asks to come back is registered with `returning` and no old id)",
            {"field": field},
        )


class UserConflict(DomainError):
    """The user id is registered with other contents."""

    @classmethod
    def of(cls, user_id: str) -> Self:
        return cls(
            f"user {user_id!r} is already registered with other contents;"
            " use users.update to change the user, or register with another id",
            {"user_id": user_id},
        )


class StaleVersion(DomainError):
    """The user has changed since the producer read it."""

    @classmethod
    def of(cls, user_id: str, *, expected: int, actual: int) -> Self:
        return cls(
            f"user {user_id!r} is at version {actual}, not {expected};"
            " read the user again and decide on what it is now",
            {"user_id": user_id, "expected_version": expected, "version": actual},
        )


class InvalidStatusTransition(DomainError):
    """A user of this status cannot be given that one."""

    @classmethod
    def of(cls, user_id: str, *, before: str, after: str, allowed: list[str]) -> Self:
        choices = ", ".join(allowed) or "none"
        return cls(
            f"user {user_id!r} is {before} and cannot become {after}; possible: {choices}"
            " (a user is erased by users.erase)",
            {"user_id": user_id, "before": before, "after": after, "allowed": allowed},
        )
