"""Which jobs an operator means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from domain.jobs.model import JobState

# A job that belongs to nothing larger is its own correlation: found by its id, so that the index
# on correlation ids has only those that several jobs share.
OF_CORRELATION = """
((correlation_id = %(correlation_id)s AND correlation_id <> id)
 OR (id = %(correlation_id)s AND correlation_id = id))"""

# The two halves of coalesce(finished_at, created_at), so that each finds its index.
_AGED = """
((finished_at {0} now() - %({1})s) OR (finished_at IS NULL AND created_at {0} now() - %({1})s))"""

# No job ends before it is accepted: said as well, so that a list begins where it has to.
_OLD = "created_at <= now() - %(older_than)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """All that is said holds; what is not said, does not matter."""

    states: Sequence[JobState] = ()
    kind: str | None = None
    queue: str | None = None
    error: str | None = None
    """Name of the error that it ended with, or that its last attempt failed with."""
    correlation_id: str | None = None
    since: timedelta | None = None
    """It has ended, or where it has not, was accepted, no longer ago than this."""
    older_than: timedelta | None = None
    """Likewise, longer ago than this."""

    def condition(self) -> str:
        """Return it as SQL."""
        filters = [
            # Not as a parameter: an index of some states serves a plan that knows which are meant.
            *([f"state = ANY ('{{{','.join(self.states)}}}')"] if self.states else []),
            *(["kind = %(kind)s"] if self.kind else []),
            *(["queue = %(queue)s"] if self.queue else []),
            *(["error ->> 'type' = %(error)s"] if self.error else []),
            *([OF_CORRELATION] if self.correlation_id else []),
            *([_AGED.format(">", "since")] if self.since is not None else []),
            *([_OLD, _AGED.format("<=", "older_than")] if self.older_than is not None else []),
        ]
        return " AND ".join(filters) or "true"

    def by_state(self) -> Sequence["JobFilter"]:
        """Return a filter for each of the states, which together mean the same."""
        states = dict.fromkeys(self.states)
        return [replace(self, states=[state]) for state in states] if states else [self]

    def parameters(self) -> dict[str, Any]:
        """Return the values that the SQL speaks of."""
        return {
            "kind": self.kind,
            "queue": self.queue,
            "error": self.error,
            "correlation_id": self.correlation_id,
            "since": self.since,
            "older_than": self.older_than,
        }
