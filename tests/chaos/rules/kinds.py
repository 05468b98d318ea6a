"""Names of the job kinds that rules speak of."""

from collections.abc import Iterator

from tests.chaos.evidence import JobRow
from tests.chaos.rules.problems import Case

ALLOCATE_ORDER = "allocation.allocate_order"
CREATE_BATCH = "allocation.create_batch"
CHANGE_BATCH = "allocation.change_batch_quantity"
CHANGE_LINE = "allocation.change_line_quantity"
DEALLOCATE_LINE = "allocation.deallocate_line"
CANCEL_ORDER = "allocation.cancel_order"
REGISTER = "users.register"
UPDATE = "users.update"
CHANGE_STATUS = "users.change_status"
ERASE = "users.erase"
IMPORT_CHUNK = "imports.import_chunk"


def succeeded(case: Case, kind: str) -> Iterator[JobRow]:
    """Return the jobs of a kind that succeeded."""
    for job in case.evidence.jobs.values():
        if job.kind == kind and job.state == "succeeded":
            yield job
