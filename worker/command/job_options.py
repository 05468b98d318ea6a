"""Options that pick jobs."""

from datetime import timedelta
from typing import Annotated

import typer

from worker.command.durations import duration

OptionalJobIds = Annotated[list[str] | None, typer.Argument(metavar="[ID…]")]
KindOption = Annotated[str | None, typer.Option(help="Only jobs of this kind.")]
CorrelationOption = Annotated[
    str | None, typer.Option(help="Only jobs with this correlation id, such as an import's run.")
]
QueueOption = Annotated[str | None, typer.Option(help="Only jobs of this queue.")]
ErrorOption = Annotated[
    str | None, typer.Option(help="Only jobs that failed with this error, such as WorkerLost.")
]
SinceOption = Annotated[
    timedelta | None,
    typer.Option(
        parser=duration,
        metavar="TIME",
        help="Only jobs that ended, or if open were accepted, in the last 90s, 15m, 2h or 7d.",
    ),
]
OlderOption = Annotated[
    timedelta | None,
    typer.Option(
        "--older-than",
        parser=duration,
        metavar="TIME",
        help="Only jobs that ended, or if open were accepted, longer ago than 90s, 15m, 2h or 7d.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Count them, and change none.")]
