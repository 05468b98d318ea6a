"""The real `tallyman`, in which what is lost or taken by a zombie comes again within seconds.

`python -m tests.chaos.short_leases worker` is `tallyman worker`, but for two times that are
minutes in a real system: a lease of the ledger, and the visibility timeout of the broker, which
the settings keep above the time that a job may take. Faults that outlast both fit into a short
run, and what is delivered twice is delivered twice much more often.
"""

from types import ModuleType

from adapters.postgres import dispatches, ledger
from worker import app
from worker.command.main import main
from worker.settings import Settings

LEASE_SECONDS = 6
HEAD_START_SECONDS = 3
VISIBILITY_SECONDS = 6

_transport = app.transport


def shorten(module: ModuleType, interval: str, *, seconds: int) -> int:
    """Put another interval into the statements of a module; return in how many."""
    found = {
        name: value.replace(interval, f"interval '{seconds} seconds'")
        for name, value in vars(module).items()
        if isinstance(value, str) and interval in value
    }
    vars(module).update(found)
    return len(found)


def transport(settings: Settings, broker_url: str) -> dict[str, object]:
    """Return what Tallyman says of its broker, with a short visibility timeout."""
    configured = _transport(settings, broker_url)
    options = configured["broker_transport_options"]
    assert isinstance(options, dict)
    options["visibility_timeout"] = VISIBILITY_SECONDS
    return configured


def apply() -> None:
    """Shorten both times; a name that is not found any more is an error."""
    lease, head_start = ledger.LEASE, dispatches.HEAD_START
    for module in (ledger, dispatches):
        assert shorten(module, lease, seconds=LEASE_SECONDS)
    assert shorten(dispatches, head_start, seconds=HEAD_START_SECONDS)
    app.transport = transport


if __name__ == "__main__":
    apply()
    main()
