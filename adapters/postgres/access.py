"""Who may do what in the database: each table, and what each role may do with it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a login is there for."""

    MIGRATOR = "migrator"
    """Owns the schema and all in it; migrates."""
    WORKER = "worker"
    """Runs workers, relays and beats."""
    PRODUCER = "producer"
    """Hands in jobs, and asks how they stand."""
    OPERATOR = "operator"
    """Sees everything but password hashes; steers jobs, queues and imports, hands in files."""
    READER = "reader"
    """Sees what is not of persons: lists, dashboards, metrics, Flower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What roles may do with a table, in the words of GRANT; None for nothing at all."""

    worker: str | None
    producer: str | None
    operator: str | None
    reader: str | None

    def of(self, role: Role) -> str | None:
        match role:
            case Role.WORKER:
                return self.worker
            case Role.PRODUCER:
                return self.producer
            case Role.OPERATOR:
                return self.operator
            case Role.READER:
                return self.reader
            case Role.MIGRATOR:
                return None


# What a job was told is its payload, which may be of a person; what came of it is not.
_OF_A_JOB = """id, kind, queue, door, priority, state, run_after, attempts, max_attempts,
    dispatches, next_dispatch, result, error, correlation_id, traceparent, parent_id,
    created_at, began_at, finished_at, scrubbed_at"""
_OF_A_PARKED_MESSAGE = """id, queue, reason, detail, task, message_id, content_type, form, size,
    copies, parked_at, last_parked_at, closed_as, closed_at"""
_OF_A_USER = """id, external_id, username, username_key, email, email_key, email_verified, name,
    status, version, created_at, updated_at"""

_WATCHED = {"producer": None, "operator": "SELECT", "reader": "SELECT"}

ACCESS: Mapping[str, Access] = {
    "alembic_version": Access(
        worker="SELECT", producer="SELECT", operator="SELECT", reader="SELECT"
    ),
    "allocation": Access(
        worker="SELECT, INSERT, DELETE, UPDATE (quantity, strategy, ranking, job_id, allocated_at)",
        **_WATCHED,
    ),
    "batch": Access(worker="SELECT, INSERT, UPDATE (purchased, allocated, eta)", **_WATCHED),
    # Who was erased is not for anybody to look up.
    "erased_identity": Access(worker="SELECT, INSERT", producer=None, operator=None, reader=None),
    "event_tally": Access(worker="SELECT, INSERT, DELETE", **_WATCHED),
    "import_chunk": Access(
        worker="SELECT, INSERT, DELETE, UPDATE (content, job_id, ends, finished_at)",
        producer=None,
        operator="SELECT, INSERT, UPDATE (content)",
        reader="SELECT (run_id, number, first_line, rows, job_id, ends, finished_at)",
    ),
    "import_error": Access(
        worker="SELECT, INSERT, DELETE, UPDATE (value)",
        producer=None,
        operator="SELECT",
        # A value is a cell of a file.
        reader="SELECT (id, run_id, line, column_name, code, message, is_personal)",
    ),
    "import_run": Access(
        worker="SELECT, INSERT, UPDATE",
        # The progress of a run is what Celery's clients are told while it is not over.
        producer="SELECT (id, file_name, state, rows, rows_done, ends)",
        operator="SELECT, INSERT, UPDATE",
        reader="SELECT",
    ),
    "job": Access(
        worker="""SELECT, INSERT, DELETE,
    UPDATE (queue, payload, state, run_after, attempts, dispatches, next_dispatch, result, error,
    began_at, finished_at, scrubbed_at, traceparent)""",
        # A job comes in as one that waits: its state and its outcome are not for a producer to say.
        producer=f"""SELECT ({_OF_A_JOB}, payload_hash),
    INSERT (id, kind, queue, door, priority, payload, payload_hash, max_attempts, correlation_id,
    traceparent, parent_id, next_dispatch)""",
        operator="""SELECT, INSERT (id, kind, queue, door, priority, payload, payload_hash,
    max_attempts, correlation_id, traceparent, parent_id, next_dispatch),
    UPDATE (state, run_after, attempts, dispatches, next_dispatch, result, error, finished_at)""",
        reader=f"SELECT ({_OF_A_JOB})",
    ),
    "job_kind": Access(worker="SELECT", producer="SELECT", operator="SELECT", reader="SELECT"),
    "job_tally": Access(
        worker="SELECT, INSERT, DELETE",
        producer=None,
        # Who cancels a job, or has it start over, counts that.
        operator="SELECT, INSERT",
        reader="SELECT",
    ),
    "job_failure": Access(worker="SELECT, INSERT, UPDATE (error)", **_WATCHED),
    "order_line": Access(worker="SELECT, INSERT, UPDATE (quantity, state)", **_WATCHED),
    # Events hold ids, and nothing of persons.
    "outbox": Access(worker="SELECT, INSERT, DELETE, UPDATE (published_at)", **_WATCHED),
    "parked_message": Access(
        worker="SELECT, INSERT, DELETE, UPDATE (copies, last_parked_at)",
        producer=None,
        operator="SELECT, UPDATE (content, closed_as, closed_at)",
        reader=f"SELECT ({_OF_A_PARKED_MESSAGE})",
    ),
    "product": Access(worker="SELECT, INSERT, UPDATE (version)", **_WATCHED),
    "queue": Access(
        worker="SELECT, UPDATE (next_job_at)",
        producer="SELECT",
        operator="SELECT, INSERT, UPDATE",
        reader="SELECT",
    ),
    "queue_gauge": Access(
        worker="SELECT, INSERT, UPDATE", producer="SELECT", operator="SELECT", reader="SELECT"
    ),
    # Nothing of it changes: to lock a row asks for a column that one may.
    "sales_order": Access(worker="SELECT, INSERT, UPDATE (created_at)", **_WATCHED),
    "stock_movement": Access(worker="SELECT, INSERT", **_WATCHED),
    "user_account": Access(
        worker="SELECT, INSERT, UPDATE",
        producer=None,
        operator=f"SELECT ({_OF_A_USER})",
        reader=None,
    ),
}
"""Every table there is; a table that is missing here fails a test."""

# Orders are numbered before they are written; other numbers are drawn by their columns.
SEQUENCES: Mapping[str, Access] = {
    "sales_order_sequence_seq": Access(worker="USAGE", producer=None, operator=None, reader=None)
}

_NOBODY = Access(worker=None, producer=None, operator=None, reader=None)

FUNCTIONS: Mapping[str, Access] = {
    # These run for whoever writes, or are called by the one below.
    "refuse_job_move()": _NOBODY,
    "refuse_lost_batch()": _NOBODY,
    "refuse_lost_line()": _NOBODY,
    "refuse_lost_order()": _NOBODY,
    "refuse_rewrite()": _NOBODY,
    "tallyman_canonical(jsonb,integer)": _NOBODY,
    "tallyman_submit(text,jsonb,text,integer,text,text)": Access(
        worker="EXECUTE", producer="EXECUTE", operator="EXECUTE", reader=None
    ),
}
"""Functions, as `regprocedure` writes them."""

_PRIVILEGE = re.compile(r"(SELECT|INSERT|UPDATE|DELETE|USAGE)(?:\s*\(([^)]*)\))?")


def needed(role: Role) -> Iterator[tuple[str, str, str]]:
    """Yield what a role needs of tables: the table, the privilege, and the column or ``""``."""
    for table, access in ACCESS.items():
        for privilege, columns in _PRIVILEGE.findall(access.of(role) or ""):
            for column in columns.split(","):
                yield table, privilege, column.strip()
