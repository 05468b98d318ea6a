"""Celery's configuration."""

import os
import subprocess
import sys

import pytest
from kombu import Queue

from worker.app import transport
from worker.collector import BETWEEN_LOOKS
from worker.settings import Settings

READY = """
import gc
from celery.signals import worker_ready
from worker.app import configured
configured()
before = gc.get_threshold()[0]
worker_ready.send(sender=None)
print(before, gc.get_threshold()[0], gc.get_freeze_count() > 10_000)
"""


class TestTheQueues:
    @pytest.mark.parametrize("broker_url", ["redis://localhost/0", "amqp://localhost//"])
    def test_are_bound_each_to_its_own_name(self, broker_url: str) -> None:
        # Else Celery binds all to the name of the first: what is sent there comes to each.
        queues = transport(Settings(), broker_url)["task_queues"]
        assert isinstance(queues, list)
        for queue in queues:
            assert isinstance(queue, Queue)
            assert queue.routing_key == queue.name


class TestTheMainProcess:
    def test_looks_for_cycles_seldom_once_it_is_ready(self) -> None:
        # Of its own, so that this process goes on as it was.
        asked = subprocess.run(
            [sys.executable, "-c", READY],
            env=os.environ
            | {
                "TALLYMAN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
                "TALLYMAN_BROKER_URL": "redis://127.0.0.1:1/0",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert asked.stdout.split() == ["700", str(BETWEEN_LOOKS), "True"]
