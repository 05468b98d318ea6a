"""Deleting what is old, a little at a time."""

from adapters.postgres.statements import Statements

_JOBS = """
DELETE FROM job WHERE id IN (
    SELECT id FROM job
    WHERE finished_at < now() - make_interval(days => %(days)s) AND state <> 'dead'
    ORDER BY finished_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)"""

_EVENTS = """
DELETE FROM outbox WHERE id IN (
    SELECT id FROM (
        SELECT id, published_at FROM outbox ORDER BY id LIMIT %(at_most)s
    ) AS oldest
    WHERE published_at < now() - make_interval(days => %(days)s))"""

# The run itself is kept: by it the same file is known when it comes again.
_CHUNKS = """
DELETE FROM import_chunk USING (
    SELECT run_id, number FROM import_chunk JOIN import_run ON id = run_id
    WHERE import_run.finished_at < now() - make_interval(days => %(days)s)
    LIMIT %(at_most)s
) AS old WHERE import_chunk.run_id = old.run_id AND import_chunk.number = old.number"""

_ERRORS = """
DELETE FROM import_error WHERE id IN (
    SELECT import_error.id FROM import_error JOIN import_run ON import_run.id = run_id
    WHERE finished_at < now() - make_interval(days => %(days)s) LIMIT %(at_most)s)"""

_MESSAGES = """
DELETE FROM parked_message WHERE id IN (
    SELECT id FROM parked_message
    WHERE closed_at < now() - make_interval(days => %(days)s)
    ORDER BY closed_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)"""


class PostgresRetention:
    """Meets `domain.jobs.maintenance.Retention`."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def prune(self, *, older_than_days: int, at_most: int) -> dict[str, int]:
        limits = {"days": older_than_days, "at_most": at_most}
        return {
            "jobs": self._statements.write(_JOBS, limits),
            "events": self._statements.write(_EVENTS, limits),
            "import_chunks": self._statements.write(_CHUNKS, limits),
            "import_errors": self._statements.write(_ERRORS, limits),
            "parked_messages": self._statements.write(_MESSAGES, limits),
        }
