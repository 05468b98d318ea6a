"""The metrics that `tallyman metrics` reads from the ledger."""

from worker.metrics.catalogue import counter, gauge, histogram

UP = gauge(
    "up", "Whether the database, a relay and the broker, as a relay sees it, answer.", "part"
)
FIGURES_AGE = gauge(
    "figures_age_seconds", "Age of what is told here: of a glance, or of a census.", "figures"
)

QUEUE_JOBS = gauge(
    "queue_jobs",
    "Jobs that have not finished: `queued` (due), `dispatched` (handed out, or with a worker)"
    " or `later` (for their next attempt, their time, or the end of an import).",
    "queue",
    "place",
)
QUEUE_OLDEST = gauge(
    "queue_oldest_job_seconds",
    "Time since the oldest of the jobs at this place was accepted, or was to run.",
    "queue",
    "place",
)
QUEUE_MESSAGES = gauge("queue_messages", "Messages that wait in the broker.", "queue")
QUEUE_PAUSED = gauge(
    "queue_paused_seconds", "Time since the queue was paused; 0 while it runs.", "queue"
)
QUEUE_RATE = gauge(
    "queue_rate_limit_jobs_per_second", "Rate that an operator has set; none, no value.", "queue"
)
QUEUE_PRIORITY = gauge("queue_priority", "Priority that an operator has set.", "queue")
QUEUE_LIMIT = gauge("queue_limit_jobs", "Jobs that may wait before `submit` refuses more.", "queue")

JOBS_OPEN = gauge("jobs_open", "Jobs that have not finished.", "kind", "state")
JOBS_DEAD = gauge("jobs_dead", "Dead jobs that nobody has retried.", "kind")
JOBS_FINISHED = counter("jobs_finished", "Jobs that came to an end.", "kind", "state")
JOBS_REVIVED = counter("jobs_revived", "Dead jobs that an operator had tried again.", "kind")
JOB_ATTEMPTS = counter(
    "job_attempts",
    "Attempts by what came of them: `succeeded`, `rejected`, `retry` or `dead`.",
    "kind",
    "outcome",
)
JOB_ERRORS = counter(
    "job_errors", "Attempts that were refused or failed, by error.", "kind", "error", "outcome"
)
JOB_SECONDS = histogram(
    "job_seconds",
    "Time from acceptance by the ledger, or from when it was to run, until a job succeeded or was"
    " rejected. A Celery message is accepted when a worker takes it.",
    "kind",
)
ATTEMPT_SECONDS = histogram(
    "job_attempt_seconds",
    "Time from the begin of the last attempt's transaction until its outcome was written; jobs of"
    " one message share one.",
    "kind",
)

RELAY_LAG = gauge(
    "relay_lag_seconds",
    "Time for which a job has been due that a relay has not handed out; of queues that run.",
)
WORKERS = gauge("workers_connected", "Workers that are connected to the database.")
OUTBOX_EVENTS = gauge(
    "outbox_events", "Events that are not yet in the stream; counted to a million."
)
OUTBOX_LAG = gauge("outbox_lag_seconds", "Age of the oldest event that is not in the stream.")
PARKED = gauge(
    "parked_messages", "Messages that are no job and wait for an operator.", "queue", "reason"
)

IMPORT_RUNS = gauge("import_runs", "Runs of imports.", "target", "state")
IMPORT_ROWS_LEFT = gauge("import_rows_left", "Rows that open runs have yet to take.", "target")
IMPORT_STALLED = gauge(
    "import_stalled_seconds",
    "Time since that open run last got on that has waited longest.",
    "target",
)
IMPORT_ROWS = counter("import_rows", "Imported rows by what became of them.", "target", "end")

EVENTS = counter("events", "Events, by name.", "event")
LINES = counter(
    "order_lines",
    "Lines of orders that were allocated, backordered, refused or deallocated.",
    "outcome",
)
LINE_UNITS = counter("order_line_units", "Units of these lines.", "outcome")
USERS = counter(
    "user_changes", "Changes of users: registered, updated, status_changed or erased.", "change"
)
STOCK_OUT_LINES = gauge(
    "stock_out_lines",
    "Lines refused or backordered within a day; the 20 products that ran out most often.",
    "sku",
)
STOCK_OUT_UNITS = gauge("stock_out_units", "Units of these lines.", "sku")

OLDEST_TRANSACTION = gauge(
    "oldest_transaction_seconds",
    "Age of the oldest open transaction of the database, which keeps VACUUM from its work.",
)
DATABASE_BYTES = gauge("database_bytes", "Size of the database.")
TABLE_BYTES = gauge("table_bytes", "Size of a table that grows, its indexes included.", "table")
