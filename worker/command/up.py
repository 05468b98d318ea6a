"""`tallyman up` and `tallyman down`: everything on this machine, started and stopped."""

import threading
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from adapters.embedded.servers import EmbeddedServers
from worker.command.exit_codes import ExitCode
from worker.command.output import fail, note, say
from worker.holding import AlreadyUp, bring_down, held
from worker.settings import load
from worker.stack import GivenUp, Plan, Stack, masked
from worker.stop_signals import until_told

WELL_SECONDS = 60.0
"""Time that the processes have to be at work after their start."""
DEMO = "demo"
"""Folder of the demo's stack, in the data folder."""


Tell = Callable[[str], None]


def up(
    *,
    no_flower: Annotated[bool, typer.Option("--no-flower", help="Leave Flower out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
) -> None:
    """Run servers, migrations, workers, relay, beat and Flower on this machine until Ctrl-C.

    What dies is started again. Where TALLYMAN_DATABASE_URL or TALLYMAN_BROKER_URL is set, that
    server is used; else one is started in the data folder, and its data stay there.
    """
    settings = load()
    plan = Plan(
        settings=settings,
        folder=settings.data_folder.resolve(),
        with_flower=not no_flower,
        with_metrics=True,
        may_move_flower="flower_port" not in settings.model_fields_set,
    )
    tell: Tell = _keep_quiet if quiet else say
    try:
        with held(plan.folder), until_told() as stopping:
            stack = Stack(plan, stopping=stopping)
            try:
                _run(stack, tell=tell, stopping=stopping)
            except KeyboardInterrupt:
                tell("Stopping at once.")
                stack.kill()
                raise
    except AlreadyUp as error:
        fail(str(error), ExitCode.USAGE)


def down(
    *,
    remove_data: Annotated[
        bool, typer.Option("--remove-data", help="Delete what the embedded servers hold, too.")
    ] = False,
) -> None:
    """Stop what `tallyman up`, or `tallyman demo --keep`, runs in the data folder."""
    settings = load()
    folder = settings.data_folder.resolve()
    try:
        for place in (folder / DEMO, folder):
            bring_down(place, seconds=Plan(settings=settings, folder=place).drain_seconds)
            if remove_data:
                EmbeddedServers(place).remove_data()
    except AlreadyUp as error:
        fail(f"it has not stopped in time: {error}")


def _run(stack: Stack, *, tell: Tell, stopping: threading.Event) -> None:
    try:
        stack.start()
        unwell = stack.wait_until_well(seconds=WELL_SECONDS)
        for line in describe(stack):
            tell(line)
        for part in unwell:
            note(f"warning: {part.part} {part.detail}; see its log in {stack.supervisord.logs}")
        stack.watch()
    except GivenUp:
        pass
    finally:
        if stopping.is_set():
            tell("Stopping: jobs in hand come to their end; Ctrl-C again stops at once.")
        stack.stop()
    tell("Stopped.")


def describe(stack: Stack) -> Iterator[str]:
    """Say where everything is."""
    addresses = stack.addresses
    yield "Tallyman is up."
    if stack.plan.with_flower:
        yield f"  Flower    {stack.flower_url}"
    yield f"  database  {masked(addresses.database_url)}"
    yield f"  broker    {masked(addresses.broker_url)}"
    if metrics := stack.health_ports.get("metrics"):
        yield f"  metrics   http://127.0.0.1:{metrics}/metrics, and those in {stack.targets}"
    yield f"  logs      {stack.supervisord.logs}"
    yield "Ctrl-C stops it, and so does `tallyman down`."


def _keep_quiet(_: str) -> None:
    """Say nothing."""
