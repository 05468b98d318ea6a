"""Stock Celery with a task that does nothing, with the settings that Tallyman's workers have."""

import os

from celery import Celery
from kombu import Queue

RESULTS = os.environ.get("BENCH_RESULTS_URL")
"""Where results go; not set, they are ignored."""

app = Celery("stock", broker=os.environ["TALLYMAN_BROKER_URL"], backend=RESULTS)
app.conf.update(
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=RESULTS is None,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_queues=[Queue("idle")],
    task_create_missing_queues=True,
)


@app.task(name="allocation.allocate_order")
def nothing(**_: object) -> None:
    """Do nothing, fast."""
