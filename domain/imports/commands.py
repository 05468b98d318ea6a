"""What is asked of imports; each command is a job kind."""

from dataclasses import dataclass
from typing import ClassVar

from domain.messages import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSource(Command):
    """Look at a source, and begin to import what has arrived there."""

    kind: ClassVar[str] = "imports.scan_source"

    source: str
    """Name of the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportFile(Command):
    """Import a file that was taken; the job ends with the run, and answers with its account."""

    kind: ClassVar[str] = "imports.import_file"

    run_id: str
    """Id of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportChunk(Command):
    """Import the next rows of a run."""

    kind: ClassVar[str] = "imports.import_chunk"

    run_id: str
    """Id of the run."""
    number: int
    """Number of the chunk; the first is 1."""
