"""Files behind URLs (s3, sftp, http and what else fsspec knows), fetched before they are read."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from pathlib import Path
from time import time
from typing import Any

import structlog

from adapters.files.opening import open_table
from adapters.files.tables import Table
from adapters.sources.stores import Stores, persistently
from domain.imports.errors import FileChanged, FileError, InvalidSource
from domain.imports.sources import Source

log = structlog.get_logger()

CHUNK = 1 << 20
NOT_FOUND = (404, 410)
"""What HTTP answers where nothing is."""
DENIED = (401, 403)
"""What HTTP answers who may not read."""
SKEW_SECONDS = 3_600.0
"""A file that was written to later than this from now says nothing of when that was."""


@dataclass(slots=True, kw_only=True)
class RemoteFile:
    """A file behind a URL; meets `domain.imports.sources.Arrival`."""

    stores: Stores
    store: Any
    """A file system of fsspec."""
    path: str
    source: Source
    listed: tuple[object, ...]
    changed_at: float | None
    """When it was last written to, in seconds since 1970; None where the store does not say."""

    @property
    def name(self) -> str:
        return _name(self.path) or self.path

    @property
    def has_settled(self) -> bool:
        if self.changed_at is None:
            return True
        age = time() - self.changed_at
        return age >= self.source.settle_seconds or age < -SKEW_SECONDS

    def open(self) -> Table:
        """Fetch it to this machine, where it is gone once it is closed, and open it."""
        local = tempfile.NamedTemporaryFile(prefix="tallyman-import-")  # noqa: SIM115  lives as long as its table
        try:
            with self.stores.calling(self.source):
                self._fetch(Path(local.name))
        except FileNotFoundError as error:
            raise FileChanged(f"{self.name} has gone") from error
        return open_table(
            Path(local.name), most_bytes=self.source.most_bytes, name=self.name, kept_by=local
        )

    def check_unchanged(self) -> None:
        try:
            with self.stores.calling(self.source):
                now = _marks(_info(self.store, self.path))
        except FileNotFoundError as error:
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
        except Exception as error:  # noqa: BLE001  every store has exceptions of its own
            # It is on record all the same, and known when it is seen again.
            log.warning("file_not_moved", file=self.name, source=self.source.name, error=str(error))

    @persistently
    def _fetch(self, local: Path) -> None:
        with closing(self.store.open(self.path, "rb")) as content, local.open("wb") as copy:
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


def arrived(source: Source, stores: Stores) -> Iterator[RemoteFile]:
    """Yield the files that fit a source's URL, by name.

    Raises:
        InvalidSource: What it takes to read such URLs is not installed, or we may not read them.
        SourceLeftAlone: The store was away a moment ago.
        SourceAway: The store cannot be reached.
    """
    with stores.calling(source):
        store, found = _listed(source, stores)
    for path in found:
        try:
            with stores.calling(source):
                info = _info(store, path)
        except FileNotFoundError:
            continue
        if info.get("type") != "directory":
            yield RemoteFile(
                stores=stores,
                store=store,
                path=path,
                source=source,
                listed=_marks(info),
                changed_at=_changed_at(info),
            )


@persistently
def _listed(source: Source, stores: Stores) -> tuple[Any, list[str]]:
    store, pattern = stores.open(source)
    folder, _, name = pattern.rpartition("/")
    if _is_pattern(folder):
        raise InvalidSource(
            f"source {source.name}: {source.files!r} has a pattern in its folder;"
            " only the name of the file may have one"
        )
    if not _is_pattern(name):
        return store, [pattern]
    try:
        # Not `glob`, for which a store that is away is one without files.
        listed = store.ls(folder, detail=False)
    except FileNotFoundError as error:
        _raise_unless_missing(store, error)
        return store, []
    return store, sorted(path for path in listed if fnmatchcase(_name(path), name))


@persistently
def _info(store: Any, path: str) -> Mapping[str, Any]:  # noqa: ANN401  fsspec has no types
    store.invalidate_cache()
    try:
        found: Mapping[str, Any] = store.info(path)
    except FileNotFoundError as error:
        _raise_unless_missing(store, error)
        raise
    return found


def _raise_unless_missing(store: Any, error: FileNotFoundError) -> None:  # noqa: ANN401  as above
    """Raise what is behind an error: over HTTP, all that goes wrong is "not found" for fsspec."""
    cause = error.__cause__
    if "http" not in store.protocol or cause is None or isinstance(cause, FileNotFoundError):
        return
    status = getattr(cause, "status", None)
    if status in DENIED:
        raise PermissionError(f"the server answers {status}") from error
    if status not in NOT_FOUND:
        raise ConnectionError(str(cause) or type(cause).__name__) from error


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _marks(info: Mapping[str, Any]) -> tuple[object, ...]:
    names = ("size", "ETag", "mtime", "LastModified", "Last-Modified")
    return tuple(str(info.get(name)) for name in names)


def _changed_at(info: Mapping[str, Any]) -> float | None:
    for name in ("mtime", "LastModified", "last_modified", "Last-Modified", "created"):
        match info.get(name):
            case datetime() as moment:
                return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            case int() | float() as seconds:
                return float(seconds)
            case str() as header:
                try:
                    return parsedate_to_datetime(header).timestamp()
                except ValueError:
                    continue
            case _:
                continue
    return None
