"""Folders of this machine as places where files arrive."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from stat import S_ISREG
from time import time

import structlog

from adapters.files.opening import open_table
from adapters.files.tables import Table, as_text
from domain.imports.errors import FileChanged, InvalidSource
from domain.imports.sources import Source

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file in a folder; meets `domain.imports.sources.Arrival`."""

    path: Path
    source: Source
    folder: Path
    """Working folder, in which the source's other folders are."""
    listed: os.stat_result

    @property
    def name(self) -> str:
        return as_text(self.path.name)

    @property
    def has_settled(self) -> bool:
        # A time of writing that is yet to come is made up, or another clock's.
        changed_at = min(self.listed.st_mtime, self.listed.st_ctime)
        return time() - changed_at >= self.source.settle_seconds

    def open(self) -> Table:
        return open_table(self.path, most_bytes=self.source.most_bytes)

    def check_unchanged(self) -> None:
        try:
            now = self.path.stat()
        except OSError as error:
            raise FileChanged(f"{self.name} has gone while it was read") from error
        if _marks(now) != _marks(self.listed):
            raise FileChanged(f"{self.name} was written to while it was read")

    def put_away(self, *, refused: bool) -> None:
        wanted = self.source.refused_folder if refused else self.source.taken_folder
        if wanted is None:
            return
        try:
            folder = self.folder / wanted
            folder.mkdir(parents=True, exist_ok=True)
            shutil.move(self.path, _free_name(folder, self.path.name))
        except OSError as error:
            # It is on record all the same, and known when it is seen again.
            log.warning("file_not_moved", file=self.name, source=self.source.name, error=str(error))


def arrived(source: Source, folder: Path) -> Iterator[LocalFile]:
    """Yield the files that fit a source's pattern, by name.

    Raises:
        InvalidSource: The folder cannot be read, or is a pattern itself.
    """
    pattern = Path(source.files)
    root = folder / pattern.parent
    if any(sign in str(pattern.parent) for sign in "*?["):
        raise InvalidSource(
            f"source {source.name}: {source.files!r} has a pattern in its folder;"
            " only the name of the file may have one"
        )
    for path in _fitting(source, root, pattern.name):
        # A link may lead anywhere: what is imported is what lies in the folder.
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            log.warning("file_outside_its_folder", file=as_text(path.name), source=source.name)
            continue
        try:
            listed = path.stat()
        except OSError:
            continue
        if S_ISREG(listed.st_mode):
            yield LocalFile(path=path, source=source, folder=folder, listed=listed)


def _fitting(source: Source, root: Path, pattern: str) -> list[Path]:
    try:
        # Not `glob`, for which a folder that may not be read is one without files.
        names = [path.name for path in root.iterdir()]
    except OSError as error:
        raise InvalidSource(
            f"source {source.name}: cannot read folder {str(root)!r}: {error.strerror}"
        ) from error
    return [
        root / name
        for name in sorted(names)
        # As shells have it: a name that starts with a dot is meant by who writes the dot.
        if fnmatchcase(name, pattern) and name.startswith(".") <= pattern.startswith(".")
    ]


def _marks(stat: os.stat_result) -> tuple[int, int, int]:
    return (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _free_name(folder: Path, name: str) -> Path:
    """Return a path in `folder` that is not taken: a file of the same name may be there."""
    place = folder / name
    number = 1
    while place.exists():
        number += 1
        place = folder / f"{name}.{number}"
    return place
