"""The proxy knows a COMMIT when it sees one, however it is cut into pieces."""

import struct
from random import Random

import pytest

from tests.chaos.frontend import SSL_REQUEST, Frontend

HELLO = b"user\0tallyman\0application_name\0tallyman producer\0\0"
STARTUP = struct.pack("!ii", len(HELLO) + 8, 3 << 16) + HELLO
SSL = struct.pack("!ii", 8, SSL_REQUEST)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


COMMIT = message(b"Q", b"COMMIT\0")
SELECT = message(b"Q", b"SELECT 'COMMIT'\0")
LONG = message(b"Q", b"SELECT '" + b"COMMIT\0Q" * 20_000 + b"'\0")


def hear(*pieces: bytes) -> list[tuple[bytes, bool]]:
    frontend = Frontend()
    return [frontend.hear(piece) for piece in pieces]


def test_it_knows_who_speaks() -> None:
    frontend = Frontend()

    for piece in (SSL, STARTUP[:11], STARTUP[11:]):
        frontend.hear(piece)

    assert frontend.application == "tallyman producer"


@pytest.mark.parametrize(
    "said",
    [COMMIT, message(b"Q", b" commit \0"), message(b"P", b"\0COMMIT\0\0\0")],
    ids=["query", "in small letters", "parse"],
)
def test_it_knows_a_commit(said: bytes) -> None:
    assert hear(STARTUP, said)[-1] == (said, True)


@pytest.mark.parametrize("said", [SELECT, LONG, message(b"X", b"")], ids=["short", "long", "end"])
def test_it_takes_nothing_else_for_one(said: bytes) -> None:
    assert hear(STARTUP, said)[-1] == (said, False)


@pytest.mark.parametrize("seed", range(20))
def test_it_passes_on_all_that_is_said_in_whatever_pieces(seed: int) -> None:
    chance = Random(seed)
    said = SSL + STARTUP + SELECT + LONG + SELECT + COMMIT
    cuts = sorted(chance.sample(range(1, len(said)), k=40))
    pieces = [said[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]

    heard = hear(*pieces)

    assert b"".join(passed for passed, _ in heard) == said
    assert [commits for _, commits in heard] == [False] * (len(heard) - 1) + [True]


def test_a_commit_is_kept_back_until_it_is_whole() -> None:
    [_, (first, early), (second, whole)] = hear(STARTUP, COMMIT[:-3], COMMIT[-3:])

    assert (first, early) == (b"", False)
    assert (second, whole) == (COMMIT, True)
