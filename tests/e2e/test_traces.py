"""Traces of real processes, as a collector of OpenTelemetry gets them."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial

import pytest
from celery import Celery

from domain.jobs.model import JobState
from tests.e2e.collector import Collector, collecting
from tests.e2e.pipeline import KIND, Pipeline, order
from tests.e2e.processes import ProcessContainer, eventually
from tests.spans import tree

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def environment(environment: Mapping[str, str], collector: Collector) -> Mapping[str, str]:
    """Say where to export to, as any program is told that speaks OpenTelemetry."""
    return {
        **environment,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        # Longer than any test waits: who waits for an exporter is found out.
        "OTEL_EXPORTER_OTLP_TIMEOUT": "600",
    }


@pytest.fixture(autouse=True)
def hears(collector: Collector) -> None:
    collector.is_deaf.clear()


def submit(environment: Mapping[str, str], job_id: str, payload: Mapping[str, object]) -> None:
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "worker.command.main", "submit", KIND, json.dumps(payload)),
            *("--id", job_id),
        ],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr


class TestARetriedJobThatWasSubmitted:
    def test_is_one_trace_of_all_processes(
        self, pipeline: Pipeline, collector: Collector, environment: Mapping[str, str]
    ) -> None:
        pipeline.has_stock("LAMP", 10)
        pipeline.breaks("O-1")
        submit(environment, "J-1", order("O-1", "LAMP"))
        pipeline.until("J-1", JobState.RETRY)
        pipeline.mends("O-1")
        pipeline.operations.retry(["J-1"])
        pipeline.until("J-1", JobState.SUCCEEDED)
        eventually(lambda: len(collector.trace_of("J-1")) == 6, what="all spans are there")

        found = tree(collector.trace_of("J-1"), leave_out=["kind"])
        print(found)  # noqa: T201  what it looks like, with `pytest -s`
        assert found == (
            "submit allocation [tallyman-command producer] id=J-1\n"
            "  send allocation [tallyman-relay producer] id=J-1\n"
            "    process allocation [tallyman-worker consumer] id=J-1 attempt=1 state=retry"
            " type=InternalError -> submit allocation (accepted) ERROR\n"
            "  send allocation [tallyman-relay producer] id=J-1\n"
            "    process allocation [tallyman-worker consumer] id=J-1 attempt=2"
            " state=succeeded"
            " -> submit allocation (accepted) -> process allocation (previous attempt)\n"
            "      send tallyman:events [tallyman-relay producer] name=OrderAllocated id=J-1"
        )
        assert b"on fire" not in collector.bytes


class TestAMessageOfAStockClient:
    def test_is_followed_in_the_trace_that_its_own_instrumentation_began(
        self, pipeline: Pipeline, collector: Collector, broker_url: str
    ) -> None:
        with Celery(broker=broker_url, set_as_current=False) as stranger:
            stranger.send_task(
                KIND,
                kwargs=order("O-2", "NONE"),
                task_id="J-2",
                queue="allocation",
                headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
            )
        pipeline.until("J-2", JobState.REJECTED)
        [process] = eventually(lambda: collector.trace_of("J-2"), what="its span is there")
        assert f"{process.trace_id:032x}" == TRACE


class TestACollectorThatDoesNotAnswer:
    def test_holds_up_no_job_and_no_worker_that_stops(
        self,
        pipeline: Pipeline,
        collector: Collector,
        environment: Mapping[str, str],
        worker: ProcessContainer,
        relay: ProcessContainer,
    ) -> None:
        collector.is_deaf.set()
        for number in range(2):
            submit(environment, f"deaf-{number}", order(f"deaf-{number}", "NONE"))
        for number in range(2):
            pipeline.until(f"deaf-{number}", JobState.REJECTED)
        for process in (worker, relay):
            process.kill("SIGTERM")
        for process in (worker, relay):
            eventually(partial(_has_ended, process), what=f"{process.name} has ended", within=60)


def _has_ended(process: ProcessContainer) -> bool:
    return process.status == "exited"
