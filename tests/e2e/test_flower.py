"""Jobs as Flower shows them, found by their own ids."""

import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from domain.jobs.model import Door
from tests.e2e.pipeline import Pipeline, order
from tests.e2e.processes import ProcessContainer, eventually

Shown = Callable[[str], dict[str, Any] | None]


@pytest.fixture(scope="module")
def flower(folder: Path, environment: Mapping[str, str]) -> Iterator[ProcessContainer]:
    """Run Flower, on a port that is free, while a module lasts."""
    container = ProcessContainer(
        "flower",
        lambda _: [sys.executable, "-m", "worker.command.main", "flower"],
        folder=folder,
        environment={
            **environment,
            "TALLYMAN_FLOWER_PORT": "0",
            "FLOWER_UNAUTHENTICATED_API": "true",
        },
        answers=lambda _: _address(container) is not None,
    )
    container.start()
    yield container
    container.teardown()


@pytest.fixture
def shown(flower: ProcessContainer, pipeline: Pipeline) -> Shown:
    """Read what Flower shows of a job, once it hears of jobs."""
    assert flower.ready()
    address = _address(flower)

    def show(job_id: str) -> dict[str, Any] | None:
        return _ask(f"{address}/api/task/info/{job_id}")

    # What happened before it listened is not told again: send orders until it shows one.
    sent: list[str] = []

    def listens() -> bool:
        sent.append(f"heard-{len(sent)}")
        pipeline.by_message(sent[-1], order(sent[-1], "unheard-of"))
        return any(map(show, sent))

    eventually(listens, what="Flower hears of jobs")
    return show


@pytest.fixture(params=[Door.CELERY, Door.LEDGER])
def door(request: pytest.FixtureRequest) -> Door:
    """Hand jobs over through one door, then through the other."""
    return Door(request.param)


class TestFlower:
    def test_shows_the_four_states(self, pipeline: Pipeline, shown: Shown, door: Door) -> None:
        send = pipeline.by_message if door is Door.CELERY else pipeline.by_submission
        jobs = pipeline.with_four_jobs(send, f"flower-{door}")

        def shows(job_id: str, state: str) -> dict[str, Any]:
            def there() -> dict[str, Any] | None:
                found = shown(job_id)
                return found if found and found["state"] == state else None

            return eventually(there, what=f"Flower shows {job_id} as {state}")

        assert "'state': 'allocated'" in shows(jobs.succeeded, "SUCCESS")["result"]
        refused = shows(jobs.rejected, "FAILURE")
        assert refused["exception"].startswith("OutOfStock(")
        assert "wants 11" in refused["exception"]
        retrying = shows(jobs.retrying, "RETRY")
        assert f"the disk of order {jobs.retrying} is on fire" in retrying["exception"]
        dead = shows(jobs.dead, "FAILURE")
        assert f"the disk of order {jobs.dead} is on fire" in dead["exception"]
        for job_id in (jobs.succeeded, jobs.rejected, jobs.retrying, jobs.dead):
            assert (shown(job_id) or {})["name"] == "allocation.allocate_order"


def _address(flower: ProcessContainer) -> str | None:
    found = re.search(r"flower_started\s+url=http://(\S+)", flower.logs())
    return found and found[1]


def _ask(resource: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://{resource}", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        error.close()
        return None
