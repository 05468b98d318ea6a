"""Results as a Celery client finds them that knows nothing of Tallyman."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import celery
import pytest
import redis

from tests.e2e.pipeline import KIND, Pipeline, order
from tests.e2e.processes import eventually

CLIENT = Path(__file__).with_name("stock_client.py")
LIBRARIES = Path(celery.__file__).parents[1]

StockClient = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def mirror_url(broker_url: str) -> str:
    """Give a Redis for results alone."""
    return urlsplit(broker_url)._replace(path="/1").geturl()


@pytest.fixture(scope="module")
def settings(mirror_url: str) -> Mapping[str, object]:
    """Mirror results apart from the broker, for ten minutes."""
    return {"mirror_url": mirror_url, "result_expires_seconds": 600}


@pytest.fixture
def mirror(mirror_url: str) -> Iterator[redis.Redis]:
    """Look into the mirror."""
    with redis.Redis.from_url(mirror_url) as client:
        yield client


@pytest.fixture
def stock_client(broker_url: str, mirror_url: str, tmp_path: Path) -> StockClient:
    """Have a stock client send messages, or read results, in a process of its own."""

    def run(**asked: Any) -> dict[str, Any]:
        urls = {"broker_url": broker_url, "mirror_url": mirror_url}
        process = subprocess.run(
            [sys.executable, "-I", "-S", str(CLIENT), str(LIBRARIES)],
            input=json.dumps({**urls, **asked}),
            cwd=tmp_path,
            env={},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert process.returncode == 0, process.stderr
        answer: dict[str, Any] = json.loads(process.stdout)
        return answer

    return run


def message(job_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Build what a stock client hands to `send_task`."""
    return {"name": KIND, "kwargs": dict(payload), "task_id": job_id, "queue": "allocation"}


class TestAStockClient:
    def test_reads_the_four_states_of_what_it_sent_and_the_ledger_agrees(
        self, pipeline: Pipeline, stock_client: StockClient, mirror: redis.Redis
    ) -> None:
        jobs = pipeline.with_four_jobs(
            lambda job_id, payload: stock_client(send=[message(job_id, payload)]), "stock"
        )
        ids = [jobs.succeeded, jobs.rejected, jobs.retrying, jobs.dead]
        # An attempt that failed is mirrored as well: it is the outcome that is waited for.
        eventually(
            lambda: all(
                _mirrored(mirror, job_id) == pipeline.result(job_id).state for job_id in ids
            ),
            what="all four are mirrored",
        )

        seen = stock_client(read=[*ids, "nobody-sent-this"])

        assert seen[jobs.succeeded] == {
            "state": "SUCCESS",
            "result": pipeline.result(jobs.succeeded).get(),
        }
        assert seen[jobs.rejected] == {
            "state": "FAILURE",
            "raises": "celery.exceptions.OutOfStock",
            "arguments": [
                "order 'stock-rejected' is short: line 1 wants 11 of stock-sku, 10 available",
                pipeline.result(jobs.rejected).result.details,
            ],
        }
        on_fire = "the disk of order {} is on fire"
        assert seen[jobs.retrying]["state"] == "RETRY"
        assert seen[jobs.retrying]["raises"].endswith(".InternalError")
        assert on_fire.format(jobs.retrying) in seen[jobs.retrying]["arguments"][0]
        assert seen[jobs.dead]["state"] == "FAILURE"
        assert seen[jobs.dead]["raises"].endswith(".InternalError")
        assert on_fire.format(jobs.dead) in seen[jobs.dead]["arguments"][0]
        assert seen["nobody-sent-this"] == {"state": "PENDING"}
        for job_id in ids:
            ledger = pipeline.result(job_id)
            assert seen[job_id]["state"] == ledger.state
            assert seen[job_id].get("arguments", []) == list(getattr(ledger.result, "args", []))

    def test_sees_an_outcome_until_it_expires_and_the_ledger_answers_longer(
        self, pipeline: Pipeline, stock_client: StockClient, mirror: redis.Redis
    ) -> None:
        pipeline.has_stock("expiry", 10)
        stock_client(send=[message("expiry", order("expiry", "expiry"))])
        key = "celery-task-meta-expiry"
        eventually(lambda: mirror.exists(key), what="mirrored")
        assert 0 < mirror.ttl(key) <= 600

        mirror.flushall()

        assert stock_client(read=["expiry"]) == {"expiry": {"state": "PENDING"}}
        assert pipeline.result("expiry").get()["state"] == "allocated"

    def test_finds_a_lost_outcome_by_sending_the_job_again(
        self, pipeline: Pipeline, stock_client: StockClient, mirror: redis.Redis
    ) -> None:
        pipeline.has_stock("again", 10)
        job = message("again", order("again", "again", quantity=2))
        stock_client(send=[job])
        eventually(lambda: mirror.exists("celery-task-meta-again"), what="mirrored")
        mirror.flushall()

        stock_client(send=[job])
        eventually(lambda: mirror.exists("celery-task-meta-again"), what="mirrored again")

        assert stock_client(read=["again"])["again"]["state"] == "SUCCESS"
        assert pipeline.allocated("again") == 2


def _mirrored(mirror: redis.Redis, job_id: str) -> str | None:
    """Return the state in which the mirror has a job."""
    copy = mirror.get(f"celery-task-meta-{job_id}")
    return str(json.loads(copy)["status"]) if copy else None
