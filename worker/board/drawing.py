"""Drawing a frame: what is wrong stands out, in words and not by its colour alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from adapters.postgres.board import FAILING_MINUTES, MOST_COUNTED, OpenImport
from domain.imports.runs import RunState
from domain.jobs.model import OPEN_STATES, JobState
from worker.board.fitting import share
from worker.board.frame import Frame
from worker.board.history import BACK
from worker.board.observing import Away
from worker.durations import ago
from worker.harmless import plain
from worker.told import named

BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", ".:-=+*#@"
DIM, WRONG, WORRYING, FINE = "dim", "bold red", "yellow", "green"
MINUTES = int(BACK.total_seconds() // 60)
AROUND_SPARKS = 43
LEAST_SPARKS, MOST_SPARKS = 10, 100
BAR_COLUMNS = 16
LATE_SECONDS = 5.0
"""Events that wait longer than this are not just on their way."""
_HEADS = ("now      ", "ended    ", "in all   ")
UNBOUNDED = 10_000
"""Lines of a frame that is printed once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """A table of one kind of thing, or the one line that there is none."""

    title: str
    columns: Sequence[tuple[str, str]]
    """Heads, with `left` or `right`; the last column takes what room is left."""
    rows: Sequence[Sequence[RenderableType]]
    none: str

    @property
    def lines(self) -> int:
        return len(self.rows)

    def draw(self, most: int) -> RenderableType:
        if not self.rows:
            return Text.assemble((f"{self.title}  ", DIM), self.none, no_wrap=True)
        if most < 1:
            return Text.assemble((f"{self.title}  ", DIM), f"{len(self.rows)}", no_wrap=True)
        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style=DIM)
        heads = [(self.title, "left"), *self.columns]
        for place, (head, side) in enumerate(heads):
            table.add_column(
                Text(head),
                justify="right" if side == "right" else "left",
                no_wrap=True,
                overflow="ellipsis",
                ratio=1 if place == len(heads) - 1 else None,
            )
        shown = self.rows if len(self.rows) <= most else self.rows[: max(0, most - 1)]
        for row in shown:
            table.add_row(*row)
        if len(shown) < len(self.rows):
            table.add_row(Text(f"… {len(self.rows) - len(shown)} more", DIM))
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A frame, as large as the terminal is."""

    frame: Frame
    hint: str = ""
    """How to end it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head = [
            _title(self.frame, self.hint, options),
            *_alarms(self.frame),
            _throughput(self.frame, options),
            _ends(self.frame),
            _left_over(self.frame),
        ]
        first, *others = sections = _sections(self.frame)
        room = (options.height or UNBOUNDED) - len(head) - len(sections) - first.lines - 1
        is_airy = room - len(others) >= sum(each.lines for each in others)
        given = share([each.lines for each in others], room - is_airy * len(others))
        yield from (_one_line(line) for line in head)
        for section, most in zip(sections, [first.lines, *given], strict=True):
            if is_airy or section is first:
                yield Text("")
            yield section.draw(most)


def _one_line(renderable: RenderableType) -> RenderableType:
    if isinstance(renderable, Text):
        renderable.no_wrap, renderable.overflow = True, "ellipsis"
    return renderable


def _title(frame: Frame, hint: str, options: ConsoleOptions) -> Text:
    left = Text.assemble(("tallyman", "bold"), f"  {frame.sight.now:%Y-%m-%d %H:%M:%S} UTC")
    right = Text(_workers_in_short(frame))
    if hint:
        right.append(f"  {hint}", DIM)
    gap = options.max_width - left.cell_len - right.cell_len
    return Text.assemble(left, " " * max(2, gap), right)


def _workers_in_short(frame: Frame) -> str:
    if frame.crew is None or frame.broker_away:
        return "workers: not known"
    workers = frame.crew.workers
    busy, processes = (sum(getattr(each, name) for each in workers) for name in _BUSY)
    noun = "worker" if len(workers) == 1 else "workers"
    return f"{len(workers)} {noun}, {busy} of {processes} processes busy"


_BUSY = ("busy", "processes")


def _alarms(frame: Frame) -> Iterable[Text]:
    if frame.database_away:
        yield from _alarm("NO DATABASE", frame.database_away, "what follows was seen before that")
    if frame.broker_away:
        yield from _alarm("NO BROKER", frame.broker_away, "workers cannot be asked")
    if not frame.is_measured and not frame.database_away:
        yield Text(" NO RELAY: none measures the queues: jobs may not be handed out", WRONG)
    elif any(queue.level.messages is None for queue in frame.sight.queues):
        yield Text(" NO BROKER: the relay does not reach it: no job is handed out", WRONG)
    if frame.crew and not frame.broker_away:
        if not frame.crew.workers:
            yield Text(" NO WORKER: none answers: no job runs", WRONG)
        elif all(worker.closed for worker in frame.crew.workers):
            yield Text(" NO INTAKE: no worker takes jobs: see below why", WRONG)


def _alarm(word: str, away: Away, so: str) -> Iterable[Text]:
    yield Text(f" {word} since {away.since:%H:%M:%S}: {so}", WRONG)
    yield Text(f"   {plain(away.reason)}", WORRYING)


def _throughput(frame: Frame, options: ConsoleOptions) -> Text:
    rate = frame.history.jobs_per_second
    now = f"{rate:,.1f} jobs/s " if rate is not None else "? jobs/s "
    columns = options.max_width - AROUND_SPARKS
    parts = max(LEAST_SPARKS, min(columns, MOST_SPARKS))
    rates = frame.history.rates(parts)
    most = max((each for each in rates if each is not None), default=0.0)
    return Text.assemble(
        (_HEADS[0], DIM),
        (f"{now:<15}", "bold"),
        (_sparks(rates, most, ascii_only=options.ascii_only), "cyan"),
        (f" {MINUTES} min, ", DIM),
        (f"most {most:,.0f}/s", DIM),
    )


def _sparks(rates: Iterable[float | None], most: float, *, ascii_only: bool) -> str:
    bars = ASCII_BARS if ascii_only else BARS
    unknown, nothing = " ", "_" if ascii_only else "·"
    return "".join(
        unknown
        if rate is None
        else bars[min(len(bars) - 1, int(len(bars) * rate / most))]
        if rate
        else nothing
        for rate in rates
    )


def _ends(frame: Frame) -> Text:
    states = frame.history.states
    text = Text.assemble((_HEADS[1], DIM))
    styles = {JobState.DEAD: WRONG, JobState.REJECTED: WORRYING, JobState.SUCCEEDED: FINE}
    for place, state in enumerate(each for each in JobState if each not in OPEN_STATES):
        jobs = states[state]
        text.append(", " if place else "")
        text.append(f"{jobs:,} {state}", styles.get(state, "") if jobs else DIM)
    if frame.history.begin:
        known = (frame.sight.now - frame.history.begin).total_seconds()
        text.append(f" in {ago(known)}", DIM)
    return text


def _left_over(frame: Frame) -> Text:
    sight = frame.sight
    age = sight.events_age.total_seconds() if sight.events_age else 0.0
    is_late = age > LATE_SECONDS
    since = f" for {ago(age)}" if is_late else ""
    return Text.assemble(
        (_HEADS[2], DIM),
        _counted(sight.dead, "dead jobs", WRONG),
        ", ",
        _counted(sight.parked, "parked messages", WORRYING),
        ", ",
        _counted(sight.events, f"events unpublished{since}", WORRYING if is_late else ""),
    )


def _counted(number: int, noun: str, style: str) -> tuple[str, str]:
    more = "more than " if number > MOST_COUNTED else ""
    return f"{more}{min(number, MOST_COUNTED):,} {noun}", style if number else DIM


def _sections(frame: Frame) -> list[_Section]:
    return [_queues(frame), _failing(frame), _imports(frame), _workers(frame)]


def _queues(frame: Frame) -> _Section:
    right = ("waiting", "running", "oldest", "jobs/s")
    return _Section(
        title="QUEUE",
        columns=[*((head, "right") for head in right), ("", "left")],
        rows=[
            (
                Text(queue.settings.name),
                f"{queue.level.waiting:,}",
                _number(frame.running(queue)),
                ago(frame.age_of(queue)),
                f"{queue.level.jobs_per_second:,.1f}" if queue.level.is_good else "-",
                Text(plain("; ".join(frame.notes(queue))), WORRYING),
            )
            for queue in frame.sight.queues
        ],
        none="none",
    )


def _failing(frame: Frame) -> _Section:
    return _Section(
        title="FAILING",
        columns=[(f"in {FAILING_MINUTES} min", "right"), ("dead", "right"), ("mostly", "left")],
        rows=[
            (
                Text(plain(each.kind, most=30)),
                f"{each.failures:,}",
                Text(f"{each.dead:,}", WRONG if each.dead else ""),
                Text(named(each.kind, each.error, each.message)),
            )
            for each in frame.sight.failing
        ],
        none=f"nothing failed in {FAILING_MINUTES} minutes, and no job is dead",
    )


def _imports(frame: Frame) -> _Section:
    return _Section(
        title="IMPORT",
        columns=[("", "left"), ("done", "right"), ("rows", "right"), ("", "left")],
        rows=[
            (
                Text(plain(run.file_name, most=28)),
                ProgressBar(
                    total=run.rows or 1,
                    completed=run.rows_done,
                    width=BAR_COLUMNS,
                    complete_style="cyan",
                    finished_style="cyan",
                ),
                f"{100 * run.rows_done // (run.rows or 1)}%",
                f"{run.rows:,}",
                _pace(run),
            )
            for run in frame.sight.imports
        ],
        none="no file is imported",
    )


def _pace(run: OpenImport) -> Text:
    if run.reason:
        return Text(f"STUCK: {plain(run.reason)}; see `tallyman imports show`", WRONG)
    rate = f"{run.rows_per_second:,.0f}/s" if run.rows_per_second else "no row lately"
    left = f", {ago(run.seconds_left)} left" if run.seconds_left is not None else ""
    doing = "" if run.state is RunState.RUNNING else f"{run.state}, "
    return Text(f"{doing}{rate}{left}")


def _workers(frame: Frame) -> _Section:
    workers = frame.crew.workers if frame.crew else ()
    return _Section(
        title="WORKER",
        columns=[("busy", "right"), ("", "left")],
        rows=[
            (
                Text(plain(worker.name, most=40)),
                f"{worker.busy}/{worker.processes}",
                Text(f"takes no jobs: {plain(worker.closed)}", WRONG)
                if worker.closed
                else Text("takes jobs", DIM),
            )
            for worker in workers
        ],
        none="none answers" if frame.crew and not frame.broker_away else "not known",
    )


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
