"""Health: whether the parts of a running system do their work, asked from outside."""

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from celery import Celery
from kombu.exceptions import OperationalError

from adapters.postgres import schema
from adapters.postgres.engine import create
from adapters.postgres.parked import ParkedMessages
from adapters.postgres.persistence import is_outage
from worker import flower as dashboard
from worker.addresses import Addresses
from worker.heartbeat import FRESH_SECONDS, is_fresh
from worker.settings import Settings

ANSWER_SECONDS = 2.0
"""How long workers have to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How one part is."""

    part: str
    is_well: bool
    detail: str


def checks(
    app: Celery, settings: Settings, addresses: Addresses
) -> Mapping[str, Callable[[], Health]]:
    """Return the check of each part."""
    return {
        "db": lambda: database(addresses.database_url),
        "broker": lambda: broker(app),
        "worker": lambda: workers(app),
        "relay": lambda: process(settings, "relay"),
        "beat": lambda: process(settings, "beat"),
        "flower": lambda: flower(dashboard.url(settings, port=settings.flower_port)),
    }


def database(url: str) -> Health:
    """Ask whether PostgreSQL answers and has a schema on which this code runs."""
    engine = create(url, application="tallyman health")
    try:
        problem = schema.objection(schema.revision(engine))
        state = "newer than this code" if schema.is_newer(engine) else "the newest"
        parked = 0 if problem else sum(each.messages for each in ParkedMessages(engine).counts())
    except Exception as error:
        if not is_outage(error):
            raise
        # The driver's words alone, which name no password: SQLAlchemy adds a link.
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        return Health(part="db", is_well=False, detail=f"PostgreSQL does not answer: {said}")
    finally:
        engine.dispose()
    if problem:
        return Health(part="db", is_well=False, detail=problem)
    seen = f", {parked:,} messages are parked: see `tallyman parked list`" if parked else ""
    return Health(part="db", is_well=True, detail=f"answers, the schema is {state}{seen}")


def broker(app: Celery) -> Health:
    """Ask whether the broker answers."""
    try:
        with app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, timeout=ANSWER_SECONDS)
    except (OperationalError, OSError) as error:
        return Health(part="broker", is_well=False, detail=f"does not answer: {error}")
    return Health(part="broker", is_well=True, detail="answers")


def workers(app: Celery, *, seconds: float = ANSWER_SECONDS, enough: int | None = None) -> Health:
    """Ask whether a worker on this machine answers and takes jobs from a queue.

    `enough` answers, of workers anywhere, end the wait for more.
    """
    here = f"@{socket.gethostname()}"
    try:
        answers = app.control.inspect(timeout=seconds, limit=enough).active_queues() or {}
        closed = _closed(app, list(answers), seconds=seconds)
    except Exception as error:  # noqa: BLE001  whatever the transport raises, nobody answered
        return Health(part="worker", is_well=False, detail=f"cannot be asked: {error}")
    taking = {
        name: [queue["name"] for queue in queues]
        for name, queues in answers.items()
        if name.endswith(here) and queues
    }
    if not taking:
        silent = "answers, but takes jobs from no queue" if answers else "does not answer"
        return Health(part="worker", is_well=False, detail=silent)
    detail = "; ".join(
        f"{name} takes {', '.join(queues)}" + (f" later: {closed[name]}" if name in closed else "")
        for name, queues in taking.items()
    )
    return Health(part="worker", is_well=True, detail=detail)


def _closed(app: Celery, names: Sequence[str], *, seconds: float) -> dict[str, str]:
    """Ask workers why they take nothing now; they are well: it is not they who have to change."""
    if not names:
        return {}
    inspect = app.control.inspect(destination=names, timeout=seconds, limit=len(names))
    told = {name: stats.get("intake", {}) for name, stats in (inspect.stats() or {}).items()}
    return {name: intake["reason"] for name, intake in told.items() if intake.get("reason")}


def process(settings: Settings, name: str) -> Health:
    """Look whether a relay or beat on this machine went round a moment ago."""
    if is_fresh(settings.data_folder, name):
        return Health(part=name, is_well=True, detail="is at work")
    detail = f"was not at work in the last {FRESH_SECONDS:.0f} seconds"
    return Health(part=name, is_well=False, detail=detail)


def flower(url: str) -> Health:
    """Ask whether Flower answers."""
    try:
        with urllib.request.urlopen(f"{url}/healthcheck", timeout=2):  # noqa: S310  it is our own
            return Health(part="flower", is_well=True, detail="answers")
    except (urllib.error.URLError, OSError) as error:
        return Health(part="flower", is_well=False, detail=f"does not answer: {error}")
