"""The metrics that each process tells of itself."""

from worker.metrics.catalogue import counter, gauge

BUILD = gauge("build_info", "Always 1; the labels tell what runs.", "process", "version")
READY = gauge("ready", "Whether `/health/ready` says so.", "process")
LIVE = gauge("live", "Whether `/health/live` says so.", "process")
ROUND_AGE = gauge(
    "round_age_seconds",
    "Time since the loop of a worker, a relay or a beat last went round.",
    "process",
)
BREAKER_OPEN = gauge(
    "breaker_open",
    "Whether calls fail at once, for the other side was away a moment ago; in a worker, how many of"
    " its processes say so.",
    "breaker",
)
BREAKER_OPENINGS = counter("breaker_openings", "Times that a breaker has opened.", "breaker")
INTAKE_OPEN = gauge("worker_intake_open", "Whether a worker takes jobs: PostgreSQL answers.")
WORKER_QUEUES = gauge("worker_queues", "Queues that a worker consumes.")
WORKER_CHILDREN = gauge("worker_children", "Processes of a worker that run jobs.")
WORKER_MESSAGES = gauge("worker_messages", "Messages that a worker has in hand.")
