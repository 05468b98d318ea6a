"""Statements that sum up a period: grouped by the database, so that a million jobs are few rows."""

# From `since` on and before `until`, as everywhere here.
_ENDED = "finished_at >= %(since)s AND finished_at < %(until)s"

# What becomes of a run's own jobs says nothing of waiting: each is kept until the one before is
# done.
_NOT_OF_IMPORTS = "queue <> 'imports'"

ACCEPTED = """
SELECT count(*) FROM job WHERE created_at >= %(since)s AND created_at < %(until)s"""

ENDED = f"""
SELECT date_bin(%(width)s, finished_at, %(origin)s) AS begin, kind, state, count(*) AS jobs
FROM job WHERE {_ENDED}
GROUP BY begin, kind, state"""

# A message of Celery's is put on record when it begins: how long it waited, nobody knows.
_TIMES = f"""
SELECT {{group}} AS grouped, count(began_at) AS jobs,
       count(began_at) FILTER (WHERE door = 'ledger') AS jobs_that_waited,
       percentile_cont(%(points)s) WITHIN GROUP (
           ORDER BY extract(epoch FROM began_at - created_at)::float8)
           FILTER (WHERE door = 'ledger') AS waited,
       percentile_cont(%(points)s) WITHIN GROUP (
           ORDER BY extract(epoch FROM finished_at - began_at)::float8) AS ran,
       percentile_cont(%(points)s) WITHIN GROUP (
           ORDER BY extract(epoch FROM finished_at - created_at)::float8)
           FILTER (WHERE door = 'ledger') AS took
FROM job
WHERE {_ENDED} AND began_at IS NOT NULL AND state IN ('succeeded', 'rejected') {{only}}
GROUP BY grouped ORDER BY grouped"""

TIMES_BY_PART = _TIMES.format(
    group="date_bin(%(width)s, finished_at, %(origin)s)", only=f"AND {_NOT_OF_IMPORTS}"
)
TIMES_BY_KIND = _TIMES.format(group="kind", only="")

_FAILED = "failure.id >= %(first)s AND failed_at >= %(since)s AND failed_at < %(until)s"

FAILED = f"""
SELECT date_bin(%(width)s, failed_at, %(origin)s) AS begin,
       attempt >= max_attempts AS is_last, count(*) AS attempts
FROM job_failure AS failure JOIN job ON job.id = job_id WHERE {_FAILED}
GROUP BY begin, is_last"""

ERRORS = f"""
SELECT kind, type, is_refusal, jobs, example, count(*) OVER () AS kinds_of_errors
FROM (
    SELECT kind, error ->> 'type' AS type, true AS is_refusal, count(*) AS jobs,
           min(error ->> 'message') AS example
    FROM job WHERE {_ENDED} AND state = 'rejected' GROUP BY kind, type
    UNION ALL
    SELECT kind, failure.error ->> 'type' AS type, false, count(*),
           min(failure.error ->> 'message')
    FROM job_failure AS failure JOIN job ON job.id = job_id WHERE {_FAILED} GROUP BY kind, type
) AS error
ORDER BY jobs DESC, kind, type, is_refusal LIMIT %(most)s"""

# An event for each time that stock was short, whether a job or a row of a file asked for it.
_SHORT = """
outbox.id >= %(first)s AND occurred_at >= %(since)s AND occurred_at < %(until)s"""

SHORT = f"""
SELECT sku, count(*) FILTER (WHERE NOT waits) AS refused, count(*) FILTER (WHERE waits) AS waiting,
       sum(units) AS units, count(*) OVER () AS skus
FROM (
    SELECT line ->> 'sku' AS sku, false AS waits,
           greatest((line ->> 'requested')::bigint - (line ->> 'available')::bigint, 0) AS units
    FROM outbox CROSS JOIN LATERAL jsonb_array_elements(payload -> 'lines') AS line
    WHERE name = 'OutOfStock' AND {_SHORT}
    UNION ALL
    SELECT payload ->> 'sku', true, (payload ->> 'outstanding')::bigint
    FROM outbox WHERE name = 'LineBackordered' AND {_SHORT}
) AS short
GROUP BY sku ORDER BY count(*) DESC, sku LIMIT %(most)s"""

RUNS = """
SELECT id, target, file_name, state, rows, rows_done, ends, created_at, finished_at,
       count(*) OVER () AS runs
FROM import_run
WHERE created_at < %(until)s AND (finished_at IS NULL OR finished_at >= %(since)s)
ORDER BY created_at DESC, id LIMIT %(most)s"""

DEAD = f"""
SELECT id, kind, attempts, finished_at AS died_at, error ->> 'type' AS type,
       error ->> 'message' AS message, count(*) OVER () AS dead
FROM job WHERE state = 'dead' AND {_ENDED}
ORDER BY finished_at DESC, id LIMIT %(most)s"""

# Rows of these tables come in the order of time, about: their ids find the first of a period
# where no index on the time does.
FIRST_ID = "SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM {table}"
TIME_OF = "SELECT {time} FROM {table} WHERE id >= %(id)s ORDER BY id LIMIT 1"
