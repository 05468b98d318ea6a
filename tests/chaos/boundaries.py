"""Where a process may die, and what stands and falls with it."""

from collections.abc import Mapping

BOUNDARIES: Mapping[str, str] = {
    "job.claimed": "a worker holds the job's row and has done nothing",
    "stock.glanced": "stock was read without locks",
    "stock.held": "products are locked, and their stock was read",
    "job.handled": "the decision is made, and its rows are written but for the counters",
    "job.finished": "the outcome is written too",
    "stock.before_move": "all is written but the counters of batches",
    "commit.ready": "all is written, nothing is committed",
    "job.committed": "all is committed, and the message is not acknowledged",
    "attempt.counted": "a suspect's attempt is counted, and it has not run",
    "failure.committed": "a failed attempt is on record, and the message is not acknowledged",
    "messages.taken": "Redis has noted messages as taken, and the worker has seen none of them",
    "messages.settling": "jobs are committed, and Redis is to be told that their messages are done",
    "relay.claimed": "jobs are noted as handed out, and nobody was told of them",
    "relay.published": "workers were told, and the relay has not looked again",
    "relay.forgot": "all is due again, and the broker's new memory has no mark yet",
    "events.published": "events are on the stream, and not marked as such",
    "import.taking": "a file's run is written, its rows are not all, and nothing is committed",
    "commit.afterwards": "files are on record, and not yet moved to where they go then",
    "import.counting": "rows of a file have had their effect, and are not counted",
    "slot.submitted": "beat has handed a slot over, and does not know it any more",
}
