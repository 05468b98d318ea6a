"""Stores of files on other machines: opened with patience that ends, and left alone while away."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from tenacity import (
    retry,
    retry_if_not_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from adapters.breakers import Breaker, CircuitOpen
from domain.errors import DomainError
from domain.imports.errors import InvalidSource, SourceAway, SourceLeftAlone
from domain.imports.sources import Source

TRIES = 4
TRY_SECONDS = 10.0
"""How long a store is tried again; a try that has begun then ends by its own limits."""
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
REST_SECONDS = 120.0
"""How long a store that was found to be away is left alone."""

ANSWERS = (FileNotFoundError, PermissionError, DomainError)
"""What a store that is there may say; all else that goes wrong on the way to it may pass."""

persistently = retry(
    retry=retry_if_not_exception_type(ANSWERS),
    wait=wait_random_exponential(multiplier=0.25, max=5),
    stop=stop_after_attempt(TRIES) | stop_after_delay(TRY_SECONDS),
    reraise=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores that URLs lead to; each that is away is left alone by itself."""

    rest_seconds: float = REST_SECONDS
    _breakers: dict[str, Breaker] = field(default_factory=dict)
    """By the store's address."""

    def open(self, source: Source) -> tuple[Any, str]:
        """Return the file system of fsspec that a source's URL leads to, and its path there.

        Raises:
            InvalidSource: What it takes to read such URLs is not installed, or it is no such URL.
        """
        try:
            url_to_fs = import_module("fsspec.core").url_to_fs
            options = _options(urlsplit(source.files).scheme)
            # One that was opened before may hold a connection that broke.
            store, path = url_to_fs(source.files, skip_instance_cache=True, **options)
        except ImportError as error:
            raise InvalidSource(
                f"source {source.name}: {error}; URLs need the extra `remote`"
                " (pip install '.[remote]' in Tallyman's folder) and the package of their scheme"
            ) from error
        except ValueError as error:
            raise InvalidSource(f"source {source.name}: {error}") from error
        return store, path

    @contextmanager
    def calling(self, source: Source) -> Iterator[None]:
        """Ask a source's store for something within the context.

        Raises:
            SourceLeftAlone: It was away a moment ago, and nothing is asked.
            SourceAway: It cannot be reached, or is broken.
            InvalidSource: It does not let us in.
        """
        try:
            with self._breaker(source).calling():
                yield
        except CircuitOpen:
            raise SourceLeftAlone.of(source.name, seconds=self.rest_seconds) from None
        except PermissionError as error:
            raise InvalidSource(f"source {source.name}: access is denied: {error}") from error
        except ANSWERS:
            raise
        except Exception as error:
            # Every store has exceptions of its own for what goes wrong on the way to it.
            told = str(error) or type(error).__name__
            raise SourceAway(f"source {source.name} cannot be reached: {told}") from error

    def _breaker(self, source: Source) -> Breaker:
        parts = urlsplit(source.files)
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        if address not in self._breakers:
            self._breakers[address] = Breaker(
                "remote_source",
                # One is many tries.
                failures=1,
                seconds=self.rest_seconds,
                is_failure=lambda error: (
                    isinstance(error, Exception) and not isinstance(error, ANSWERS)
                ),
            )
        return self._breakers[address]


def _options(scheme: str) -> Mapping[str, Any]:
    """Return what keeps a call to such a store from waiting for ever.

    Raises:
        ImportError: The package of the scheme is not installed.
    """
    match scheme:
        case "http" | "https":
            timeout = import_module("aiohttp").ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
            )
            return {"client_kwargs": {"timeout": timeout}}
        case "s3" | "s3a":
            return {
                "config_kwargs": {
                    "connect_timeout": CONNECT_SECONDS,
                    "read_timeout": READ_SECONDS,
                    "retries": {"max_attempts": 0},
                }
            }
        case "sftp" | "ssh":
            import_module("sshfs")
            return {
                "connect_timeout": CONNECT_SECONDS,
                "login_timeout": READ_SECONDS,
                "keepalive_interval": READ_SECONDS,
                # Which hosts are known says ~/.ssh/known_hosts; fsspec's own way is to trust all.
                "known_hosts": (),
            }
        case _:
            return {}
