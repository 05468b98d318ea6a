"""Password hashes: argon2id in PHC form and nothing else, so that no password gets in."""

import re

from domain.users.errors import InvalidPasswordHash

_PHC = re.compile(
    r"\$argon2id\$v=19"
    r"\$m=(?P<memory>[1-9][0-9]{0,9}),t=(?P<passes>[1-9][0-9]{0,9}),p=(?P<lanes>[1-9][0-9]{0,7})"
    r"\$(?P<salt>[A-Za-z0-9+/]{11,64})"
    r"\$(?P<digest>[A-Za-z0-9+/]{16,86})"
)
_WORD = 2**32
_LANES = 2**24
_KIB_PER_LANE = 8


def check_password_hash(text: str) -> None:
    """Check the form and the parameters of RFC 9106: salt of 8-48 bytes, hash of 12-64.

    Raises:
        InvalidPasswordHash: It is anything else; the error never holds any of it.
    """
    found = _PHC.fullmatch(text)
    if found is None:
        raise InvalidPasswordHash.because(
            "must be argon2id in PHC form, $argon2id$v=19$m=…,t=…,p=…$salt$hash;"
            " a password itself is never accepted"
        )
    memory, passes, lanes = (int(found[name]) for name in ("memory", "passes", "lanes"))
    if not (_KIB_PER_LANE * lanes <= memory < _WORD and passes < _WORD and lanes < _LANES):
        raise InvalidPasswordHash.because("has parameters m, t or p that argon2 does not allow")
    # Base64 without padding: no run of bytes ends one character into a group of four.
    if any(len(found[name]) % 4 == 1 for name in ("salt", "digest")):
        raise InvalidPasswordHash.because("has a salt or hash that is not Base64")
