"""The job kinds of imports."""

from domain.imports import chunks, commands, scanning
from domain.imports.taking import QUEUE
from domain.jobs.kinds import JobKind

KINDS = (
    JobKind(
        command=commands.ScanSource,
        handler=scanning.scan_sources,
        queue=QUEUE,
        about="source {source}",
    ),
    JobKind(
        command=commands.ImportFile, handler=chunks.import_files, queue=QUEUE, about="run {run_id}"
    ),
    JobKind(
        command=commands.ImportChunk,
        handler=chunks.import_chunks,
        queue=QUEUE,
        about="run {run_id}, chunk {number}",
    ),
)
