"""Just enough of what clients say to PostgreSQL: who they are, and when they COMMIT."""

import struct
from dataclasses import dataclass, field

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102
QUERY = b"Q"
PARSE = b"P"
LONGEST_COMMIT = 64
"""No message that says COMMIT is longer: what is longer is not looked at."""


@dataclass(kw_only=True)
class Frontend:
    """Follows the messages of one client through however they are cut into pieces."""

    application: str = ""
    _is_greeted: bool = False
    _kept: bytearray = field(default_factory=bytearray)
    """The beginning of a message, whose end is still to come."""
    _skips: int = 0
    """Bytes of a long message that are still to come."""

    def hear(self, said: bytes) -> tuple[bytes, bool]:
        """Return what may be passed on, and whether a COMMIT ends it.

        A client waits for the answer to a COMMIT, so nothing follows it. A message that is short
        enough to be one is kept until it is whole.
        """
        passed = said[: self._skips]
        self._skips -= len(passed)
        self._kept += said[len(passed) :]
        commits = False
        while (size := self._size()) is not None:
            message = bytes(self._kept[:size])
            del self._kept[:size]
            passed += message
            if len(message) < size:
                self._skips = size - len(message)
            elif self._is_greeted:
                commits = _is_commit(message)
            else:
                self._greet(message)
        return passed, commits

    def _size(self) -> int | None:
        """Return the size of the message in hand, once it can be passed on."""
        head = 5 if self._is_greeted else 4
        if len(self._kept) < head:
            return None
        [length] = struct.unpack("!i", self._kept[head - 4 : head])
        size = int(length) + head - 4
        must_be_whole = not self._is_greeted or size <= LONGEST_COMMIT
        return None if must_be_whole and len(self._kept) < size else size

    def _greet(self, message: bytes) -> None:
        [code] = struct.unpack("!i", message[4:8])
        if code in (SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST):
            return
        self._is_greeted = True
        words = message[8:].split(b"\0")
        parameters = dict(zip(words[::2], words[1::2], strict=False))
        self.application = parameters.get(b"application_name", b"").decode(errors="replace")


def _is_commit(message: bytes) -> bool:
    kind, body = message[:1], message[5:]
    if kind == QUERY:
        return body.rstrip(b"\0").strip().upper() == b"COMMIT"
    if kind == PARSE:
        _, _, query = body.partition(b"\0")
        return query.partition(b"\0")[0].strip().upper() == b"COMMIT"
    return False
