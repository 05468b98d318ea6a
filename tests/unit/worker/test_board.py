"""How a board is drawn: what fits a terminal, and what must not reach it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from adapters.postgres.board import FailingKind, Finished, OpenImport, Sight
from domain.imports.runs import RunState
from domain.jobs.model import JobState
from domain.jobs.queues import QUEUES, Queue, QueueLevel, QueueSettings
from worker.board.crew import Crew, Worker
from worker.board.drawing import Board
from worker.board.fitting import share
from worker.board.frame import Frame
from worker.board.history import BACK, History
from worker.board.observing import Away
from worker.durations import ago, short, whole
from worker.harmless import plain
from worker.told import named, told

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ORDER = "allocation.allocate_order"
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\r\nnext"


def queue(name: str, *, waiting: int = 0, is_good: bool = True, **settings: object) -> Queue:
    return Queue(
        settings=QueueSettings(name=name, **settings),  # type: ignore[arg-type]
        level=QueueLevel(waiting=waiting, jobs_per_second=0.0, messages=0, is_good=is_good),
    )


def sight(
    *,
    finished: Mapping[int, int] | None = None,
    queues: Sequence[Queue] | None = None,
    failing: Sequence[FailingKind] = (),
    imports: Sequence[OpenImport] = (),
) -> Sight:
    """Build a look at noon; `finished` are jobs by the seconds ago."""
    return Sight(
        now=NOON,
        since=NOON - BACK,
        finished=[
            Finished(second=NOON - timedelta(seconds=ago), state=JobState.SUCCEEDED, jobs=jobs)
            for ago, jobs in (finished or {}).items()
        ],
        queues=queues or [queue(name) for name in QUEUES],
        failing=failing,
        imports=imports,
        dead=3,
        parked=0,
        events=0,
        events_age=None,
    )


def frame(seen: Sight | None = None, **others: object) -> Frame:
    seen = seen or sight()
    crew = Crew(workers=[Worker(name="w@host", processes=4, busy=2, closed=None)], running={})
    return replace(
        Frame(
            sight=seen,
            history=History().after(seen),
            crew=crew,
            database_away=None,
            broker_away=None,
        ),
        **others,  # type: ignore[arg-type]
    )


def lines(
    frame: Frame, *, width: int = 80, height: int | None = 24, **options: object
) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False, **options)  # type: ignore[arg-type]
    console.print(Board(frame=frame), height=height)
    return out.getvalue().splitlines()


def failing(kind: str, **given: object) -> FailingKind:
    told = {"failures": 1, "dead": 0, "error": "Boom", "message": "the disk is on fire"}
    return FailingKind(kind=kind, **{**told, **given})  # type: ignore[arg-type]


def run(file_name: str, **given: object) -> OpenImport:
    known = {"rows": 1000, "rows_done": 250, "rows_per_second": 50.0, "reason": None}
    return OpenImport(
        id="r",
        target="orders",
        file_name=file_name,
        state=RunState.RUNNING,
        **{**known, **given},  # type: ignore[arg-type]
    )


class TestBoard:
    def test_shows_everything_in_24_lines_of_80(self) -> None:
        seen = sight(
            finished={10: 50},
            queues=[
                queue("allocation", waiting=1226, paused_at=NOON, pause_reason="stock take"),
                queue("users", most_waiting=500, waiting=500),
                queue("imports", jobs_per_second=2.5, priority=5),
                queue("maintenance"),
            ],
            failing=[failing(ORDER, failures=12, dead=3)],
            imports=[run("december.csv")],
        )
        shown = lines(frame(seen))
        assert len(shown) <= 24
        assert max(map(len, shown)) <= 80
        text = "\n".join(shown)
        for words in (
            "2026-03-02 12:00:00 UTC",
            "1 worker, 2 of 4 processes busy",
            "3 dead jobs",
            "1,226",
            "paused: stock take",
            "FULL: takes 500",
            "at most 2.5/s; priority 5",
            "Boom: the disk is on fire",
            "25%",
            "50/s, 15 s left",
            "w@host",
        ):
            assert words in text

    @pytest.mark.parametrize("height", [14, 16, 24, 40])
    def test_never_exceeds_the_terminal(self, height: int) -> None:
        seen = sight(
            failing=[failing(f"kind-{number}") for number in range(30)],
            imports=[run(f"file-{number}") for number in range(30)],
        )
        crew = Crew(
            workers=[
                Worker(name=f"w{number}", processes=1, busy=0, closed=None) for number in range(30)
            ],
            running={},
        )
        shown = lines(frame(seen, crew=crew), height=height)
        assert len(shown) <= height
        if height == 24:
            assert sum("more" in line for line in shown) == 3
            for what in ("kind-0", "file-0", "w0"):
                assert what in "\n".join(shown)

    def test_tells_what_is_away_and_since_when(self) -> None:
        away = Away(reason="connection refused", since=NOON)
        text = "\n".join(lines(frame(database_away=away)))
        assert "NO DATABASE since 12:00:00" in text
        assert "connection refused" in text
        text = "\n".join(lines(frame(broker_away=away)))
        assert "NO BROKER since 12:00:00" in text
        assert "workers: not known" in text

    def test_tells_that_no_relay_and_no_worker_is_there(self) -> None:
        idle = sight(queues=[queue(name, is_good=False) for name in QUEUES])
        text = "\n".join(lines(frame(idle, crew=Crew(workers=[], running={}))))
        assert "NO RELAY" in text
        assert "NO WORKER" in text

    def test_tells_why_no_worker_takes_jobs(self) -> None:
        closed = Worker(name="w", processes=1, busy=0, closed="PostgreSQL is read-only")
        text = "\n".join(lines(frame(crew=Crew(workers=[closed], running={}))))
        assert "NO INTAKE" in text
        assert "PostgreSQL is read-only" in text

    def test_tells_an_import_that_is_stuck(self) -> None:
        text = "\n".join(lines(frame(sight(imports=[run("x.csv", reason="WorkerLost")]))))
        assert "STUCK: WorkerLost" in text

    def test_lets_no_name_move_the_cursor(self) -> None:
        seen = sight(
            queues=[queue("allocation", paused_at=NOON, pause_reason=HOSTILE)],
            failing=[failing(HOSTILE), failing(ORDER, error=HOSTILE, message=HOSTILE)],
            imports=[run(HOSTILE), run("y", reason=HOSTILE)],
        )
        crew = Crew(workers=[Worker(name=HOSTILE, processes=1, busy=0, closed=HOSTILE)], running={})
        away = Away(reason=HOSTILE, since=NOON)
        shown = lines(frame(seen, crew=crew, database_away=away), width=400, height=60)
        text = "\n".join(shown)
        assert "gnp.exe" in text
        assert all(line.isprintable() for line in shown)

    def test_takes_a_name_for_no_markup(self) -> None:
        assert "[red]x[/red]" in "\n".join(lines(frame(sight(imports=[run("[red]x[/red]")]))))

    def test_is_black_and_white_where_no_color_is_wanted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        out = io.StringIO()
        console = Console(file=out, width=80, force_terminal=True, color_system="truecolor")
        console.print(Board(frame=frame(sight(failing=[failing(ORDER, dead=1)]))))
        assert "\x1b[3" not in out.getvalue().replace("\x1b[39m", "")
        assert ";3" not in out.getvalue()

    def test_draws_with_ascii_where_there_is_nothing_else(self) -> None:
        raw = io.BytesIO()
        out = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
        seen = sight(finished={10: 5, 20: 10}, imports=[run("x.csv")])
        Console(file=out, width=80).print(Board(frame=frame(seen)))
        out.flush()
        assert b"_" in raw.getvalue()


class TestSparkline:
    def test_is_as_high_as_the_rate(self) -> None:
        seen = sight(finished={3: 80, 100: 40, 200: 10})
        [line] = [line for line in lines(frame(seen)) if "jobs/s" in line and "min" in line]
        assert "most " in line
        assert [line.count(bar) for bar in "▂▅█"] == [1, 1, 1]


class TestHistory:
    def test_is_the_rate_of_the_last_seconds(self) -> None:
        history = History().after(sight(finished={0: 1000, 2: 10, 5: 15, 6: 25, 60: 999}))
        # The second that goes on is left out.
        assert history.jobs_per_second == pytest.approx(50 / 5)

    def test_forgets_what_is_long_ago(self) -> None:
        history = History().after(sight(finished={250: 9}))
        later = replace(sight(), now=NOON + timedelta(seconds=200), since=NOON)
        assert history.after(later).states == {}

    def test_begins_anew_after_a_gap(self) -> None:
        history = History().after(sight(finished={250: 9, 10: 1}))
        later = replace(
            sight(), now=NOON + timedelta(seconds=100), since=NOON + timedelta(seconds=90)
        )
        after = history.after(later)
        assert after.begin == later.since
        assert after.states == {}
        assert after.rates(10)[0] is None


class TestShare:
    @pytest.mark.parametrize(
        ("wanted", "room", "given"),
        [
            ([3, 1, 2], 10, [3, 1, 2]),
            ([9, 9, 9], 4, [2, 1, 1]),
            ([0, 5], 3, [0, 3]),
            ([5], -2, [0]),
        ],
    )
    def test_gives_each_in_turn(self, wanted: list[int], room: int, given: list[int]) -> None:
        assert share(wanted, room) == given


class TestWords:
    @pytest.mark.parametrize(
        ("seconds", "said"),
        [(None, "-"), (0.00042, "0.4 ms"), (0.05, "50 ms"), (1.5, "1.5 s"), (45.2, "45 s"),
         (119, "119 s"), (7200, "2 h"), (200_000, "2 d")],
    )  # fmt: skip
    def test_of_a_length_are_short(self, seconds: float | None, said: str) -> None:
        assert short(seconds) == said

    def test_of_a_length_are_whole(self) -> None:
        assert [whole(each) for each in (3600, 5400, 86_400, 210, 5)] == [
            *("1 h", "90 min", "1 d", "210 s", "5 s")
        ]
        assert ago(130) == "2 min"

    def test_are_one_line_that_moves_nothing(self) -> None:
        assert plain(HOSTILE).isprintable()
        assert plain("a\nb") == "a b"
        assert plain("abcdef", most=4) == "abc…"

    def test_of_an_error_are_left_out_where_they_may_be_of_a_person(self) -> None:
        assert named(ORDER, "Boom", "(psycopg.errors.Boom) fire\nmore") == "Boom: fire"
        for kind in ("users.register", "imports.import_chunk", "unknown.kind"):
            assert told(kind, "Key (email)=(ada@example.com) exists") == ""
            assert named(kind, "Boom", "ada@example.com") == "Boom"
