"""Celery's configuration."""

from kombu import Queue

from worker.app import configuration
from worker.settings import Settings


class TestTheQueues:
    def test_are_bound_each_to_its_own_name(self) -> None:
        # Else Celery binds all to the name of the first: what is sent there comes to each.
        queues = configuration(Settings())["task_queues"]
        assert isinstance(queues, list)
        for queue in queues:
            assert isinstance(queue, Queue)
            assert queue.routing_key == queue.name
