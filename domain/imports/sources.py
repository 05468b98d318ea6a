"""Sources: places where files arrive, and what is to be made of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.imports.columns import Columns
from domain.imports.rows import Reject, Row
from domain.imports.runs import OnExists, Plan, RowPolicy
from domain.imports.skips import SkipRule
from domain.imports.targets import IMPORTS, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where files arrive, how they are read and how often somebody looks."""

    name: str
    target: Target
    files: str
    """A pattern of files in a folder, or a URL."""
    every_seconds: int | None = None
    """How often beat looks; None with `cron`, or where nobody looks by the clock."""
    cron: str | None = None
    """The minutes, in UTC, at which beat looks, as five fields of a crontab."""
    settle_seconds: float = 10.0
    """A file that changed less than this ago may still be written: it is left for later."""
    most_bytes: int = 1 << 30
    """Size, unpacked, beyond which a file is refused."""
    taken_folder: str | None = None
    """Where files go once they are on record; None leaves them where they are."""
    refused_folder: str | None = None
    """Where files go that cannot be read at all; None leaves them where they are."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column by field."""
    constants: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    skips: tuple[SkipRule, ...] = ()
    policy: RowPolicy = RowPolicy.REJECT_ROWS
    max_errors: int | None = None
    on_exists: OnExists = OnExists.FAIL

    def plan(self, header: Sequence[str]) -> Plan:
        """Plan the import of a file with these columns.

        Raises:
            InvalidMapping: A column is missing, or there twice.
        """
        return Plan(
            target=self.target,
            header=tuple(header),
            columns=Columns.match(
                header,
                IMPORTS[self.target].fields,
                mapped=self.columns,
                constants=self.constants,
                defaults=self.defaults,
            ),
            skips=self.skips,
            policy=self.policy,
            max_errors=self.max_errors,
            on_exists=self.on_exists,
        )


class TableOfRows(Protocol):
    """A file that could be opened, and can be read as often as one likes."""

    @property
    def digest(self) -> str: ...

    @property
    def header(self) -> tuple[str, ...]: ...

    def rows(self) -> Iterator[Row | Reject]: ...


class Arrival(Protocol):
    """A file that has arrived at a source."""

    @property
    def name(self) -> str: ...

    @property
    def has_settled(self) -> bool:
        """Whether it has been left alone for as long as its source asks for."""

    def open(self) -> TableOfRows:
        """Open it.

        Raises:
            FileError: It cannot be read as rows.
        """

    def check_unchanged(self) -> None:
        """Make sure that nobody wrote to it since it was listed.

        Raises:
            FileChanged: Somebody did.
        """

    def put_away(self, *, refused: bool) -> None:
        """Move it to where its source wants it; it may be gone by now."""


class Sources(Protocol):
    """The sources that are described, and what has arrived there."""

    def find(self, name: str) -> Source:
        """Return a source.

        Raises:
            SourceNotFound: None has this name.
            InvalidSource: Its description cannot be used.
        """

    def arrivals(self, source: Source) -> Iterable[Arrival]:
        """Yield the files that are there, by name."""
