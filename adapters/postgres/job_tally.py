"""Tallying jobs: parts of the ledger's own statements, so that a count costs no round trip."""

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds, in seconds, of the classes that times are counted in; a last one has no bound."""

_LEAST = f"ARRAY[{', '.join(map(str, BOUNDS))}]::float8[]"
_MOST = f"ARRAY[{', '.join(map(str, BOUNDS))}, 'Infinity']::float8[]"


def _bound_of(seconds: str) -> str:
    return f"({_MOST})[1 + width_bucket({seconds}, {_LEAST})]"


TIMES = """
    greatest(extract(epoch FROM job.finished_at - coalesce(finished.since, job.created_at)), 0
    )::float8 AS waited,
    greatest(extract(epoch FROM job.finished_at - now()), 0)::float8 AS took"""
"""How long a job took that is being finished: in all, and since its transaction began."""

TALLY_FINISHED = f"""
INSERT INTO job_tally (kind, state, error, waited_below, took_below, jobs, waited, took)
SELECT kind, state, error, {_bound_of("waited")}, {_bound_of("took")},
       count(*), sum(waited), sum(took)
FROM done GROUP BY 1, 2, 3, 4, 5"""
"""Tally the rows of `done`: kind, state, error, waited, took."""

TALLY = """
INSERT INTO job_tally (kind, state, error, jobs)
SELECT kind, state, error ->> 'type', count(*) FROM done GROUP BY 1, 2, 3"""
"""Tally the rows of `done`: kind, state and error, which were not finished by a handler."""
