"""Email addresses: kept as given, told apart by a key."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self
from unicodedata import normalize

from domain.users.errors import InvalidEmail

STORED_LENGTH = 254
"""Longest address that mail can carry (RFC 5321, erratum 1690), in octets and in characters."""
SHOWN_LENGTH = 100

_LOCAL_OCTETS = 64
_LOCAL_PART = re.compile(r'[^\s.@"(),:;<>\[\]\\]+(\.[^\s.@"(),:;<>\[\]\\]+)*')
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"({_LABEL}\.)+(?=[a-z]){_LABEL}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailAddress:
    """An address as given, and the key on which two addresses are the same."""

    given: str = field(repr=False)
    """In NFC, trimmed; upper case and national domain as the person wrote them."""
    key: str = field(repr=False)
    """Lower-cased, the domain in ASCII."""

    @classmethod
    def parse(cls, raw: str) -> Self:
        """Read an address.

        Domains follow IDNA 2003, the one in Python's standard library: it also holds
        `straße.example` and `strasse.example` to be the same domain.

        Raises:
            InvalidEmail: It is not an address that mail can be sent to.
        """
        given = normalize("NFC", raw.strip())
        # First of all: the IDNA codec takes quadratic time.
        if len(given) > STORED_LENGTH:
            raise InvalidEmail.because(f"has more than {STORED_LENGTH} characters")
        local, at, domain = given.rpartition("@")
        if not at or not given.isprintable() or not _LOCAL_PART.fullmatch(local):
            raise InvalidEmail.because("is not of the form local-part@domain")
        key = f"{normalize('NFC', local.lower())}@{_ascii_domain(domain)}"
        if len(local.encode()) > _LOCAL_OCTETS:
            raise InvalidEmail.because(f"has more than {_LOCAL_OCTETS} octets before the @")
        if len(key.encode()) > STORED_LENGTH:
            raise InvalidEmail.because(f"has more than {STORED_LENGTH} octets")
        return cls(given=given, key=key)

    @property
    def shown(self) -> str:
        """The address for a page or a list, cut with an ellipsis at `SHOWN_LENGTH` characters."""
        if len(self.given) <= SHOWN_LENGTH:
            return self.given
        return self.given[: SHOWN_LENGTH - 1] + "…"


# The hosts of most addresses are few.
@lru_cache(maxsize=1_024)
def _ascii_domain(domain: str) -> str:
    try:
        host = domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        # Without its cause: Python's message quotes the domain.
        raise InvalidEmail.because("has a domain that no host can have") from None
    if not _HOST.fullmatch(host):
        raise InvalidEmail.because("has a domain that no host can have")
    return host
