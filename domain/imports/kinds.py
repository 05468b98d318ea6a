"""The job kinds of imports."""

from domain.imports import chunks, commands, scanning
from domain.imports.taking import QUEUE
from domain.jobs.kinds import JobKind

KINDS = (
    JobKind(command=commands.ScanSource, handler=scanning.scan_sources, queue=QUEUE),
    JobKind(command=commands.ImportFile, handler=chunks.import_files, queue=QUEUE),
    JobKind(command=commands.ImportChunk, handler=chunks.import_chunks, queue=QUEUE),
)
