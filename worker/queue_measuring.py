"""Measuring queues beside a relay: how much waits, since when and how fast; tallies made few."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from adapters.postgres.queue_gauges import PostgresQueueGauges
from adapters.postgres.tallies import Folding

log = structlog.get_logger()

PERIOD_SECONDS = 1.0
SHARE = 20
"""Times as long as measuring took passes until it is done again: it takes 5% of the time."""
AWAY_SECONDS = 5.0
"""How long to wait when a measurement failed."""


@dataclass(kw_only=True)
class QueueMeasuring:
    """Measures about once a second, and less often where that takes long."""

    gauges: PostgresQueueGauges
    queues: tuple[str, ...]
    messages: Callable[[], Mapping[str, int]]
    """Messages in the broker, by queue, as far as is known."""
    folding: Folding
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Measure until `stopping` is set."""
        every = PERIOD_SECONDS
        while not self.stopping.wait(every):
            began = time.monotonic()
            try:
                self.gauges.measure(self.queues, messages=self.messages(), every=every)
                self.folding.fold()
            except Exception as error:  # noqa: BLE001  jobs are relayed whatever fails here, and producers count by themselves
                log.warning("queues_not_measured", error=type(error).__name__)
                every = AWAY_SECONDS
            else:
                every = max(PERIOD_SECONDS, SHARE * (time.monotonic() - began))
