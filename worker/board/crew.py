"""The workers, as they answer through the broker."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery

from adapters.broker import HASTILY
from worker.app import transport
from worker.settings import Settings

ANSWER_SECONDS = 1.0
"""How long workers have to answer."""

_GROUP = re.compile(r"<([0-9]{1,6}) jobs>")
"""How a relay's message says how many jobs it carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker that answered."""

    name: str
    processes: int
    busy: int
    """Processes that run a message."""
    closed: str | None
    """Why it takes no jobs now; None where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """All workers that answered, and the jobs in their hands."""

    workers: Sequence[Worker]
    running: Mapping[str, int]
    """Jobs by queue."""


def build_asker(settings: Settings, broker_url: str) -> Celery:
    """Build an app that knows no tasks and asks workers only."""
    app = Celery("tallyman top", broker=broker_url, set_as_current=False)
    app.conf.update(accept_content=["json"], **transport(settings, broker_url))
    return app


def ask(app: Celery, *, seconds: float = ANSWER_SECONDS) -> Crew:
    """Ask all workers what they do; it takes `seconds`, for nobody knows how many there are.

    Raises:
        Exception: The broker cannot be asked; the kind depends on its transport.
    """
    options = {**HASTILY, "socket_timeout": 2 * seconds}
    with app.connection_for_write(transport_options=options) as connection:
        connection.ensure_connection(max_retries=1, timeout=seconds)
        stats = app.control.inspect(timeout=seconds, connection=connection).stats() or {}
        if not stats:
            return Crew(workers=[], running={})
        among = app.control.inspect(
            destination=sorted(stats), timeout=seconds, limit=len(stats), connection=connection
        )
        # `safe`: as workers show them in Flower, with what is personal masked.
        active = among.active(safe=True) or {}
    running: Counter[str] = Counter()
    for message in (each for name in stats for each in active.get(name, ())):
        queue = (message.get("delivery_info") or {}).get("routing_key")
        running[str(queue)] += _jobs(str(message.get("args")))
    return Crew(
        workers=[_worker(name, stats[name], active.get(name, ())) for name in sorted(stats)],
        running=running,
    )


def _worker(name: str, stats: Mapping[str, Any], active: Sequence[object]) -> Worker:
    intake = stats.get("intake") or {}
    pool = stats.get("pool") or {}
    return Worker(
        name=name,
        processes=len(pool.get("processes") or ()) or int(pool.get("max-concurrency") or 0),
        busy=len(active),
        closed=None if intake.get("is_open", True) else str(intake.get("reason") or "not yet told"),
    )


def _jobs(arguments: str) -> int:
    found = _GROUP.search(arguments)
    return int(found[1]) if found else 1
