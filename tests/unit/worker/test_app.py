"""Celery's configuration."""

import pytest
from kombu import Queue

from worker.app import transport
from worker.settings import Settings


class TestTheQueues:
    @pytest.mark.parametrize("broker_url", ["redis://localhost/0", "amqp://localhost//"])
    def test_are_bound_each_to_its_own_name(self, broker_url: str) -> None:
        # Else Celery binds all to the name of the first: what is sent there comes to each.
        queues = transport(Settings(), broker_url)["task_queues"]
        assert isinstance(queues, list)
        for queue in queues:
            assert isinstance(queue, Queue)
            assert queue.routing_key == queue.name
