"""What a run prints: faults, jobs, recoveries, verdict."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tests.chaos.campaign import Outcome
from tests.chaos.recovery import Recovery

SHOWN_PROBLEMS = 20


def show(alone: Outcome, together: Sequence[Outcome]) -> RenderableType:
    """Return tables of the run with one fault at a time, and of those with many at once."""
    outcomes = [alone, *together]
    return Group(
        _faults("One fault at a time", [alone]),
        _faults("Many at once", together),
        "work: seconds from the end of a fault until the next job was finished; all: until"
        " everything was that had been accepted before that end",
        _jobs(outcomes),
        *_problems(outcomes),
    )


def _faults(title: str, outcomes: Sequence[Outcome]) -> Table:
    table = Table(title=title)
    for column in ("fault", "times", "lasted", "work", "worst", "all", "worst"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    found: dict[str, list[Recovery]] = defaultdict(list)
    for outcome in outcomes:
        for kind, recoveries in outcome.recoveries.items():
            found[kind] += recoveries
    for kind, recoveries in sorted(found.items()):
        table.add_row(kind, *_figures(recoveries))
    everything = [recovery for recoveries in found.values() for recovery in recoveries]
    table.add_section()
    table.add_row("all", *_figures(everything))
    left_out = {kind: why for kind, why in _not_applied(outcomes).items() if kind not in found}
    table.caption = "\n".join(f"not {kind}: {why}" for kind, why in sorted(left_out.items()))
    return table


def _figures(recoveries: Sequence[Recovery]) -> Iterator[str]:
    yield str(len(recoveries))
    if not recoveries:
        return
    yield f"{median(recovery.lasted for recovery in recoveries):.1f}"
    for times in (
        [recovery.until_work for recovery in recoveries],
        [recovery.until_all for recovery in recoveries],
    ):
        yield f"{median(times):.1f}"
        yield f"{max(times):.1f}"


def _jobs(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="Jobs")
    table.add_column("")
    for outcome in outcomes:
        table.add_column(outcome.name, justify="right")
    table.add_column("together", justify="right")
    rows: dict[str, list[int]] = defaultdict(list)
    for outcome in outcomes:
        for name, count in _counts(outcome).items():
            rows[name].append(count)
    for name, counts in rows.items():
        table.add_row(name, *(f"{count:,}" for count in (*counts, sum(counts))))
    for name, seconds in (
        ("load lasted", [outcome.load_seconds for outcome in outcomes]),
        ("drain lasted", [outcome.drain_seconds for outcome in outcomes]),
    ):
        table.add_row(name, *(f"{each:.1f} s" for each in (*seconds, sum(seconds))))
    return table


def _counts(outcome: Outcome) -> Mapping[str, int]:
    verdict = outcome.verdict
    return {
        "accepted": verdict.accepted,
        "finished": sum(verdict.finished.values()),
        "… succeeded": verdict.finished.get("succeeded", 0),
        "… rejected": verdict.finished.get("rejected", 0),
        "… dead": verdict.finished.get("dead", 0),
        "ambiguous, landed": verdict.ambiguous_landed,
        "ambiguous, absent": verdict.ambiguous_absent,
        "refused (id used twice)": verdict.refused,
        "lost by Redis on their way in, door (a)": verdict.lost_by_transport,
        "LOST": verdict.lost,
        "LEFT OPEN": verdict.left_open,
        "DUPLICATED": verdict.duplicated,
        "events": verdict.events,
        "… published again": verdict.published_again,
        "processes started again": outcome.restarts,
        "problems": len(verdict.problems),
    }


def _problems(outcomes: Sequence[Outcome]) -> Iterator[Text]:
    for outcome in outcomes:
        problems = outcome.verdict.problems
        for problem in problems[:SHOWN_PROBLEMS]:
            yield Text(f"{outcome.name}: {problem}", style="red")
        if len(problems) > SHOWN_PROBLEMS:
            yield Text(f"{outcome.name}: … {len(problems) - SHOWN_PROBLEMS} more", style="red")
    if not any(outcome.verdict.problems for outcome in outcomes):
        faults = Counter[str]()
        for outcome in outcomes:
            faults.update(outcome.verdict.faults)
        yield Text(f"No promise was broken under {faults.total()} faults.", style="green")


def _not_applied(outcomes: Sequence[Outcome]) -> Mapping[str, str]:
    return {kind: why for outcome in outcomes for kind, why in outcome.not_applied.items()}
