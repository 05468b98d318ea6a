"""`tallyman queues`: look at queues, pause them, say how fast and in which order they run."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from domain.jobs.errors import QueueNotFound
from domain.jobs.queues import (
    LEAST_RATE,
    MOST_LIMIT,
    MOST_PRIORITY,
    MOST_RATE,
    MOST_REASON,
    QUEUES,
    Queue,
    held_back_by,
)
from worker.command.database import database
from worker.command.output import JsonOption, note, say, show_json, show_table
from worker.settings import load

NONE = "none"

app = typer.Typer(no_args_is_help=False, add_completion=False)

Name = Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(QUEUES)}.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME…]")]
AllOption = Annotated[bool, typer.Option("--all", help="All queues.")]


@app.callback(invoke_without_command=True)
def show(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Show what waits in each queue; the commands below control them."""
    if context.invoked_subcommand is not None:
        return
    otherwise = load().most_waiting
    with database() as opened:
        queues = opened.queues.view(QUEUES)
    if as_json:
        show_json([_describe(queue, queues, otherwise) for queue in queues])
        return
    show_table(
        "Queues",
        (
            *("queue", "state", "priority", "rate", "limit", "waiting", "oldest", "messages"),
            "jobs/s",
        ),
        [
            (
                queue.settings.name,
                _state(queue, queues),
                queue.settings.priority,
                _per_second(queue.settings.jobs_per_second),
                queue.settings.most_waiting or otherwise,
                queue.level.waiting,
                _age(queue.level.due_since),
                queue.level.messages,
                f"{queue.level.jobs_per_second:.1f}" if queue.level.is_good else None,
            )
            for queue in queues
        ],
    )
    if not all(queue.level.is_good for queue in queues):
        note("no relay measures the queues: does one run? (`tallyman up`, or `tallyman relay`)")


@app.command()
def pause(
    names: Names = None,
    *,
    all_queues: AllOption = False,
    reason: Annotated[
        str | None, typer.Option(help="Why, for whoever wonders; no personal data.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let no more jobs of these queues run; what runs now comes to its end.

    Jobs are accepted as before, and wait. It holds within a second, and until `resume`.
    """
    if reason is not None and not (1 <= len(reason) <= MOST_REASON and reason.isprintable()):
        raise typer.BadParameter(f"a reason is one line of 1 to {MOST_REASON} characters")
    chosen = _chosen(names, all_queues=all_queues)
    with database() as opened:
        paused = opened.queue_settings.pause(chosen, reason=reason)
    if as_json:
        show_json(
            [
                {"queue": name, "paused_at": since, "pause_reason": why}
                for name, since, why in paused
            ]
        )
        return
    for name, since, why in paused:
        say(f"paused {name} since {since:%Y-%m-%d %H:%M:%S}: {why or 'no reason was given'}")


@app.command()
def resume(
    names: Names = None, *, all_queues: AllOption = False, as_json: JsonOption = False
) -> None:
    """Let the jobs of these queues run again."""
    chosen = _chosen(names, all_queues=all_queues)
    with database() as opened:
        resumed = opened.queue_settings.resume(chosen)
    if as_json:
        show_json([{"queue": name, "resumed": name in resumed} for name in chosen])
        return
    for name in chosen:
        say(f"resumed {name}" if name in resumed else f"{name} was not paused")


@app.command()
def rate(
    name: Name,
    jobs_per_second: Annotated[
        str, typer.Argument(metavar="JOBS_PER_SECOND", help="Such as 50 or 0.2, or none.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Hand out no more jobs of a queue than so many a second, however many workers there are."""
    [chosen] = _chosen([name], all_queues=False)
    value = _rate(jobs_per_second)
    with database() as opened:
        opened.queue_settings.set_rate(chosen, value)
    told = f"{name} runs at most {value:g} jobs a second" if value else f"{name} has no rate"
    show_json({"queue": name, "rate": value}) if as_json else say(told)


@app.command(context_settings={"ignore_unknown_options": True})
def priority(
    name: Name,
    value: Annotated[
        int,
        typer.Argument(
            metavar="PRIORITY",
            min=-MOST_PRIORITY,
            max=MOST_PRIORITY,
            help=f"-{MOST_PRIORITY} to {MOST_PRIORITY}; 0 where nothing was said.",
        ),
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Serve a queue before those of a lower priority: they wait while it has a backlog."""
    [chosen] = _chosen([name], all_queues=False)
    with database() as opened:
        opened.queue_settings.set_priority(chosen, value)
    told = f"{name} has priority {value}"
    show_json({"queue": name, "priority": value}) if as_json else say(told)


@app.command()
def limit(
    name: Name,
    most_waiting: Annotated[
        str, typer.Argument(metavar="JOBS", help="Jobs that may wait, or none.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Refuse more jobs of a queue while so many wait in it."""
    [chosen] = _chosen([name], all_queues=False)
    value = _limit(most_waiting)
    with database() as opened:
        opened.queue_settings.set_limit(chosen, value)
    told = f"{value:,} jobs may wait in {name}" if value else f"{name} has no limit of its own"
    show_json({"queue": name, "limit": value}) if as_json else say(told)


def _chosen(names: Sequence[str] | None, *, all_queues: bool) -> list[str]:
    if bool(names) == all_queues:
        raise typer.BadParameter(f"give queues, or --all; known: {', '.join(QUEUES)}")
    chosen = list(dict.fromkeys(names or QUEUES))
    if unknown := [name for name in chosen if name not in QUEUES]:
        raise QueueNotFound.of(*unknown, known=QUEUES)
    return chosen


def _rate(text: str) -> float | None:
    if text == NONE:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not LEAST_RATE <= value <= MOST_RATE:
        raise typer.BadParameter(
            f"{text!r} is no rate: it is {NONE}, or {LEAST_RATE:g} to {MOST_RATE:,.0f} jobs a"
            " second; `tallyman queues pause` lets none run"
        )
    return value


def _limit(text: str) -> int | None:
    if text == NONE:
        return None
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_LIMIT):
        raise typer.BadParameter(f"{text!r} is no limit: it is {NONE}, or 1 to {MOST_LIMIT:,} jobs")
    return int(text)


def _state(queue: Queue, queues: Sequence[Queue]) -> str:
    settings = queue.settings
    if settings.paused_at is not None:
        return "paused" + (f": {settings.pause_reason}" if settings.pause_reason else "")
    if ahead := held_back_by(queue, queues):
        return f"waits for {', '.join(ahead)}"
    return "running"


def _per_second(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:g}/s"


def _age(since: datetime | None) -> str | None:
    if since is None:
        return None
    seconds = max(0, int((datetime.now(tz=UTC) - since).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _describe(queue: Queue, queues: Sequence[Queue], otherwise: int) -> dict[str, Any]:
    settings, level = queue.settings, queue.level
    return {
        "queue": settings.name,
        "paused_at": settings.paused_at,
        "pause_reason": settings.pause_reason,
        "priority": settings.priority,
        "waits_for": held_back_by(queue, queues),
        "rate": settings.jobs_per_second,
        "limit": settings.most_waiting or otherwise,
        "waiting": level.waiting,
        "due_since": level.due_since,
        "messages": level.messages,
        "jobs_per_second": level.jobs_per_second if level.is_good else None,
        "measured_seconds_ago": level.age_seconds if level.is_good else None,
    }
