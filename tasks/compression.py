"""Compressed messages: as large as a message may be, and no larger."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from kombu import compression

from tasks.protocol import MOST_BODY_BYTES

MOST_DICTIONARY_BYTES = 64 << 20
"""Memory that LZMA may take, whatever a message asks for."""


class TooLarge(ValueError):
    """It is larger than any message may be, once it is unpacked."""


class Decompressor(Protocol):
    """What the standard library's incremental decompressors have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def bound() -> None:
    """Have kombu unpack no message in this process beyond the size of a message.

    It unpacks what claims to be compressed before anybody has seen it: a few kilobytes can
    become all the memory of the machine.
    """
    bounded: dict[str, tuple[Callable[[bytes], bytes], Callable[[], Any]]] = {
        "application/x-gzip": (zlib.compress, zlib.decompressobj),
        "application/x-bz2": (bz2.compress, bz2.BZ2Decompressor),
        "application/x-lzma": (
            lzma.compress,
            lambda: lzma.LZMADecompressor(memlimit=MOST_DICTIONARY_BYTES),
        ),
    }
    for content_type in compression.encoders():
        if content_type in bounded:
            encode, new = bounded[content_type]
            compression.register(encode, _decoder(new), content_type)
        else:
            compression.register(_not_taken, _not_taken, content_type)


def _decoder(new: Callable[[], Decompressor]) -> Callable[[bytes], bytes]:
    def decode(body: bytes) -> bytes:
        decompressor = new()
        plain = decompressor.decompress(body, MOST_BODY_BYTES)
        if not decompressor.eof:
            raise TooLarge
        return plain

    return decode


def _not_taken(_: bytes) -> NoReturn:
    raise TooLarge
