"""Files behind URLs (s3, sftp, http and what else fsspec knows), fetched before they are read."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from time import time
from typing import Any

import structlog
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from adapters.files.opening import open_table
from adapters.files.tables import Table
from domain.imports.errors import FileChanged, FileError, InvalidSource
from domain.imports.sources import Source

log = structlog.get_logger()

CHUNK = 1 << 20
TRIES = 4
NOT_FOUND = (404, 410)
"""What HTTP answers where nothing is."""

# What a store may raise while it, or the way to it, is briefly broken.
_persistently = retry(
    retry=retry_if_exception_type((OSError, TimeoutError)),
    wait=wait_random_exponential(multiplier=0.5, max=10),
    stop=stop_after_attempt(TRIES),
    reraise=True,
)


class SourceAway(Exception):
    """A store cannot be reached; the job that looks there is tried again later."""


@dataclass(slots=True, kw_only=True)
class RemoteFile:
    """A file behind a URL; meets `domain.imports.sources.Arrival`."""

    store: Any
    """A file system of fsspec."""
    path: str
    source: Source
    listed: tuple[object, ...]
    changed_at: float | None
    """When it was last written to, in seconds since 1970; None where the store does not say."""

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1] or self.path

    @property
    def has_settled(self) -> bool:
        return self.changed_at is None or time() - self.changed_at >= self.source.settle_seconds

    def open(self) -> Table:
        """Fetch it to this machine, where it is gone once it is closed, and open it."""
        local = tempfile.NamedTemporaryFile(prefix="tallyman-import-")  # noqa: SIM115  lives as long as its table
        try:
            self._fetch(Path(local.name))
        except FileNotFoundError as error:
            raise FileChanged(f"{self.name} has gone") from error
        except OSError as error:
            raise SourceAway(f"{self.name} cannot be fetched: {error}") from error
        return open_table(
            Path(local.name), most_bytes=self.source.most_bytes, name=self.name, kept_by=local
        )

    def check_unchanged(self) -> None:
        try:
            now = _marks(self.store.info(self.path))
        except OSError as error:
            raise FileChanged(f"{self.name} has gone while it was read") from error
        if now != self.listed:
            raise FileChanged(f"{self.name} was written to while it was read")

    def put_away(self, *, refused: bool) -> None:
        wanted = self.source.refused_folder if refused else self.source.taken_folder
        if wanted is None:
            return
        try:
            folder = self.store._strip_protocol(wanted)  # noqa: SLF001  fsspec names no public way
            self.store.makedirs(folder, exist_ok=True)
            self.store.mv(self.path, f"{folder}/{self.name}")
        except (OSError, NotImplementedError) as error:
            # It is on record all the same, and known when it is seen again.
            log.warning("file_not_moved", file=self.name, source=self.source.name, error=str(error))

    @_persistently
    def _fetch(self, local: Path) -> None:
        with self.store.open(self.path, "rb") as content, local.open("wb") as copy:
            size = 0
            while chunk := content.read(CHUNK):
                size += len(chunk)
                if size > self.source.most_bytes:
                    raise FileError(
                        f"{self.name} has more than {self.source.most_bytes:,} bytes:"
                        " split it, or raise most_bytes of the source"
                    )
                copy.write(chunk)


def is_url(files: str) -> bool:
    """Tell a URL from a path."""
    return "://" in files


def arrived(source: Source) -> Iterator[RemoteFile]:
    """Yield the files that fit a source's URL, by name.

    Raises:
        InvalidSource: What it takes to read such URLs is not installed.
        SourceAway: The store cannot be reached.
    """
    try:
        store, pattern = import_module("fsspec.core").url_to_fs(source.files)
    except ImportError as error:
        raise InvalidSource(
            f"source {source.name}: {error}; URLs need the extra `remote`"
            " (pip install 'tallyman[remote]') and the package of their scheme"
        ) from error
    except ValueError as error:
        raise InvalidSource(f"source {source.name}: {error}") from error
    try:
        found = _listed(store, pattern)
    except OSError as error:
        raise SourceAway(f"source {source.name} cannot be reached: {error}") from error
    for path, info in sorted(found.items()):
        if info.get("type") != "directory":
            yield RemoteFile(
                store=store,
                path=path,
                source=source,
                listed=_marks(info),
                changed_at=_changed_at(info),
            )


@_persistently
def _listed(store: Any, pattern: str) -> dict[str, dict[str, Any]]:  # noqa: ANN401  fsspec has no types
    store.invalidate_cache()
    if any(sign in pattern for sign in "*?["):
        found: dict[str, dict[str, Any]] = store.glob(pattern, detail=True)
        return found
    try:
        return {pattern: store.info(pattern)}
    except FileNotFoundError as error:
        # What could not be reached is "not found" too, in the words of some stores.
        status = getattr(error.__cause__, "status", None)
        if error.__cause__ is None or status in NOT_FOUND:
            return {}
        raise ConnectionError(str(error.__cause__)) from error


def _marks(info: dict[str, Any]) -> tuple[object, ...]:
    return tuple(str(info.get(name)) for name in ("size", "ETag", "mtime", "LastModified"))


def _changed_at(info: dict[str, Any]) -> float | None:
    for name in ("mtime", "LastModified", "last_modified", "created"):
        match info.get(name):
            case datetime() as moment:
                return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            case int() | float() as seconds:
                return float(seconds)
            case _:
                continue
    return None
