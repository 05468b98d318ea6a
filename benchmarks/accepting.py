"""How fast jobs are accepted, beside bare statements that write the same rows."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import quantiles
from typing import Any

import psycopg

from benchmarks.celery_contenders import KIND, submissions
from benchmarks.orders import Load
from benchmarks.stack import plain
from benchmarks.stage import Stage
from domain.jobs.model import Submission
from worker.producer import CHUNK, Producer

MANY = 50_000
SINGLE = 1_000

INSERT = """
INSERT INTO job (id, kind, queue, door, payload, payload_hash, max_attempts, next_dispatch)
VALUES (%s, %s, 'allocation', 'ledger', %s, %s, 5, now())"""
COPY = """
COPY job (id, kind, queue, door, payload, payload_hash, max_attempts, next_dispatch) FROM STDIN"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What was measured, beside what is bare."""

    many: float
    """Jobs a second by `submit_many`."""
    bare_many: float
    """Rows a second by COPY in transactions of as many rows."""
    single: list[float] = field(repr=False)
    """Milliseconds of each `submit`."""
    bare_single: list[float] = field(repr=False)
    """Milliseconds of each INSERT with its COMMIT."""


def measure(stage: Stage) -> Accepted:
    """Accept many jobs at once, then single ones in turn with bare rows."""
    with (
        stage.database(Load(orders=0)) as url,
        Producer.at(url) as producer,
        psycopg.connect(plain(url), autocommit=True) as connection,
    ):
        many = list(submissions(Load(orders=MANY)))
        bare = [_row(job) for job in submissions(Load(orders=MANY, first=MANY))]
        submitted = _seconds(partial(producer.submit_many, many))
        copied = _seconds(partial(_copy, connection, bare))
        single: list[float] = []
        bare_single: list[float] = []
        one_by_one = iter(list(submissions(Load(orders=2 * SINGLE, first=2 * MANY))))
        for job in one_by_one:
            single.append(1_000 * _seconds(partial(_submit, producer, job)))
            row = _row(next(one_by_one))
            bare_single.append(
                1_000 * _seconds(partial(connection.execute, INSERT, row, prepare=True))
            )
        found = connection.execute("SELECT count(*) FROM job").fetchone()
        assert found == (2 * MANY + 2 * SINGLE,)
    return Accepted(
        many=MANY / submitted, bare_many=MANY / copied, single=single, bare_single=bare_single
    )


def percentile(milliseconds: list[float], percent: int) -> float:
    return quantiles(milliseconds, n=100)[percent - 1]


def _submit(producer: Producer, job: Submission) -> None:
    producer.submit(job.kind, job.payload, job_id=job.job_id)


def _copy(connection: psycopg.Connection[Any], rows: list[list[Any]]) -> None:
    for start in range(0, len(rows), CHUNK):
        with connection.cursor() as cursor, cursor.copy(COPY) as copy:
            for job_id, kind, payload, digest in rows[start : start + CHUNK]:
                copy.write_row((job_id, kind, "allocation", "ledger", payload, digest, 5, "now"))


def _row(job: Submission) -> list[Any]:
    return [job.job_id, KIND, job.text, job.payload_hash()]


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
