"""`tallyman demo`: the whole journey of some orders, from nothing to balanced books."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import typer

from domain.allocation.orders import OrderLine
from domain.jobs.model import JobState
from worker.command.exit_codes import ExitCode
from worker.command.output import fail, note, say, show_table
from worker.command.up import DEMO, WELL_SECONDS
from worker.demonstration.acts import Demonstration, Findings, Stuck
from worker.demonstration.shop import Shop, make_shop
from worker.holding import AlreadyUp, held
from worker.settings import Settings, load
from worker.stack import GivenUp, Plan, Stack
from worker.stop_signals import until_told

MOST_ORDERS = 200_000


def demo(
    *,
    orders: Annotated[int, typer.Option(min=40, max=MOST_ORDERS, help="Orders to place.")] = 5_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same orders.")] = 7,
    keep: Annotated[bool, typer.Option("--keep", help="Leave all of it running.")] = False,
) -> None:
    """Show the whole journey of some orders, on servers of its own, and check the result.

    Starts PostgreSQL, Valkey, workers, relay, beat and Flower in a folder beside the data of
    `tallyman up`, and removes them with their data at the end. Exits with 0 if all checks hold.
    """
    settings = load()
    plan = _plan(settings)
    shop = make_shop(orders=orders, seed=seed, today=datetime.now(tz=UTC).date())
    try:
        with held(plan.folder), until_told() as stopping:
            stack = Stack(plan, stopping=stopping)
            is_kept = False
            try:
                findings = _play(stack, shop)
                problems = list(findings.problems())
                is_kept = keep
            except GivenUp:
                raise KeyboardInterrupt from None
            except Stuck as error:
                is_kept = keep
                fail(f"{error}; `tallyman demo --keep` leaves the logs to look at")
            finally:
                if not is_kept:
                    _remove(stack)
    except AlreadyUp as error:
        fail(str(error), ExitCode.USAGE)
    for problem in problems:
        note(f"NOT AS IT SHOULD BE: {problem}")
    if keep:
        say("All of it still runs; `tallyman down` stops it.")
    if problems:
        raise typer.Exit(ExitCode.REFUSED)


def _plan(settings: Settings) -> Plan:
    # Servers of its own, whatever is set: a demo has no business in anybody's database.
    own = {"database_url": None, "broker_url": None, "mirror_url": None}
    return Plan(
        settings=settings.model_copy(update=own),
        folder=settings.data_folder.resolve() / DEMO,
        may_move_flower=True,
    )


def _play(stack: Stack, shop: Shop) -> Findings:
    tell = _teller()
    tell("PostgreSQL, Valkey, a worker, relay, beat and Flower …")
    stack.clear()
    stack.remove_data()
    stack.start()
    unwell = stack.wait_until_well(seconds=WELL_SECONDS)
    if unwell:
        raise Stuck("; ".join(f"{part.part} {part.detail}" for part in unwell))
    tell(f"Flower shows it all at {stack.flower_url}")
    findings = Demonstration(stack.addresses, stopping=stack.stopping).play(shop, tell=tell)
    tell("Done.")
    _show(findings)
    return findings


def _remove(stack: Stack) -> None:
    try:
        stack.stop()
    except KeyboardInterrupt:
        stack.kill()
        raise
    finally:
        stack.remove_data()


def _teller() -> Callable[[str], None]:
    began = time.monotonic()

    def tell(line: str) -> None:
        say(f"{time.monotonic() - began:5.1f} s  {line}")

    return tell


def _show(findings: Findings) -> None:
    by_state = {state: Counter[str]() for state in JobState}
    for count in findings.counts:
        by_state[count.state][count.kind] += count.jobs
    seen = [state for state in JobState if by_state[state]]
    kinds = sorted({count.kind for count in findings.counts})
    say("")
    show_table(
        "Jobs by outcome",
        ["kind", *seen],
        [[kind, *(by_state[state][kind] or None for state in seen)] for kind in kinds],
    )
    say("")
    show_table("Orders by state", ["state", "orders"], sorted(findings.orders.items()))
    say("")
    books = findings.books
    pace = findings.jobs_in_pace / findings.seconds if findings.seconds else 0.0
    answers = ", ".join(f"{jobs} {state}" for state, jobs in sorted(findings.answers.items()))
    say(
        f"Pace      {findings.jobs_in_pace:,} orders in {findings.seconds:.1f} s,"
        f" {pace:,.0f} a second from the first accepted to the last committed"
    )
    say(
        f"Stock     {books.held:,} units held by order lines = {books.counted:,} on the batches'"
        f" counters = {books.moved:,} by movements; {books.over_allocated} of {books.batches:,}"
        " batches over-allocated"
    )
    say(f"Client    a stock Celery client over Redis was told: {answers}")
    say(
        f"Retried   {findings.retried.id}: attempt 1 failed"
        f" ({findings.retry_reason.splitlines()[0]}), attempt {findings.retried.attempts} succeeded"
    )
    for refused in (findings.unknown_sku, findings.malformed):
        if refused.error:
            say(f"Refused   {refused.id}: {refused.error.type}: {refused.error.message}")
    say(
        f"Cut       batch {findings.cut} from {findings.cut_from:,} allocated units to"
        f" {findings.cut_to:,}: {findings.moved.released} lines gave up their units,"
        f" {findings.moved.placed} have others instead, the rest wait"
    )
    if findings.line:
        _explain(findings.line)


def _explain(line: OrderLine) -> None:
    for reference, allocation in line.allocations.items():
        eta = f"due {allocation.eta}" if allocation.eta else "on hand"
        say(
            f"Why?      line {line.line_id} of {line.order_id} has {allocation.quantity} of"
            f" {line.sku} from {reference} ({eta}); by strategy {allocation.strategy} it chose from"
        )
        for place, (candidate, available, due) in enumerate(allocation.ranking, start=1):
            when = f"due {due}" if due else "on hand"
            say(f"            {place}. {candidate}: {available} available, {when}")
