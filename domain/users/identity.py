"""What a user is known by: usernames, names, ids, and the keys that no two users share."""

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple, Self
from unicodedata import category, normalize

from domain.users.errors import (
    EmailTaken,
    ExternalIdTaken,
    IdentityTaken,
    InvalidExternalId,
    InvalidName,
    InvalidUserId,
    InvalidUsername,
    InvalidUserValue,
    UsernameTaken,
)

USERNAME_LENGTH = 50
NAME_LENGTH = 200
ID_LENGTH = 255

# Joiners (Cf) stay: names in Persian and in Indic scripts are spelled with them.
_NOT_IN_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})


class IdentityField(StrEnum):
    """A field in which no two users are the same."""

    EXTERNAL_ID = "external_id"
    EMAIL = "email"
    USERNAME = "username"

    @property
    def taken(self) -> type[IdentityTaken]:
        """What to refuse with where another user holds the value."""
        return {"external_id": ExternalIdTaken, "email": EmailTaken, "username": UsernameTaken}[
            self.value
        ]


class IdentityKey(NamedTuple):
    """A value that one user at most holds, in the form that is compared."""

    field: IdentityField
    value: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of field and value: what stays of an erased person."""
        return sha256(f"{self.field}:{self.value}".encode()).digest()

    @property
    def outlives_its_user(self) -> bool:
        """Whether nobody else may take it once its user is erased; a username is free again."""
        return self.field is not IdentityField.USERNAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Username:
    """A username as given, and the key on which two usernames are the same."""

    given: str = field(repr=False)
    key: str = field(repr=False)

    @classmethod
    def parse(cls, raw: str) -> Self:
        """Read a username.

        Raises:
            InvalidUsername: It is empty, too long or not printable.
        """
        given = normalize("NFC", raw.strip())
        _check_length(given, USERNAME_LENGTH, InvalidUsername)
        if not given.isprintable():
            raise InvalidUsername.because("holds characters that cannot be printed")
        return cls(given=given, key=_folded(given))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What an erased person was known by, once more, so that traces can be found and removed."""

    user_id: str
    email: str = field(repr=False)
    """The address as it was given."""
    keys: frozenset[IdentityKey] = field(repr=False)

    @property
    def digests(self) -> frozenset[bytes]:
        return frozenset(key.digest for key in self.keys if key.outlives_its_user)


def parse_name(raw: str) -> str:
    """Read a person's name.

    Raises:
        InvalidName: It is empty, too long or holds control characters.
    """
    name = normalize("NFC", raw.strip())
    _check_length(name, NAME_LENGTH, InvalidName)
    # What is printable, nearly every name, holds none of these.
    if not name.isprintable() and any(category(each) in _NOT_IN_NAMES for each in name):
        raise InvalidName.because("holds control characters or line breaks")
    return name


def check_user_id(user_id: str) -> None:
    """Check an id that a producer chose.

    Raises:
        InvalidUserId: It is empty, too long or not printable.
    """
    _check_id(user_id, InvalidUserId)


def check_external_id(external_id: str) -> None:
    """Check the id under which an upstream system knows the user.

    Raises:
        InvalidExternalId: It is empty, too long or not printable.
    """
    _check_id(external_id, InvalidExternalId)


def _check_id(text: str, error: type[InvalidUserValue]) -> None:
    _check_length(text, ID_LENGTH, error)
    if not text.isprintable():
        raise error.because("holds characters that cannot be printed")


def _check_length(text: str, longest: int, error: type[InvalidUserValue]) -> None:
    if not 1 <= len(text) <= longest:
        raise error.because(f"must have 1 to {longest} characters, got {len(text)}")


def _folded(text: str) -> str:
    # Folding can undo the normal form and the other way round: twice settles it (Unicode, D146).
    for _ in range(2):
        text = normalize("NFKC", text).casefold()
    return normalize("NFKC", text)
