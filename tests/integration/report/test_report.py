"""The figures of a report, against jobs that were set up by hand."""

import json
import sys
from datetime import datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from adapters.postgres.period import Period, PostgresPeriods
from domain.jobs.model import JobState
from tests.ended_jobs import (
    NOON,
    ORDER,
    REGISTER,
    attempt_failed,
    do,
    ended,
    failure,
    happened,
    imported,
    seconds,
)
from tests.integration.command.conftest import Tallyman
from tests.jobs import Probe, Script, accept, build_executor, probe_kinds, submission
from worker.report.parts import MOST_PARTS, parts, width_for
from worker.report.summary import Summary

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
PERIOD = ("--since", "2026-03-02T12:00", "--until", "2026-03-02T13:00:00+00:00")
MESSAGE = "Key (email)=(ada@example.com) already exists"
HOSTILE = "</td><script>alert(1)</script>\x1b[2J"


@pytest.fixture
def busy_hour(engine: Engine) -> None:
    """Give an hour whose figures are known."""
    # A minute in which 120 jobs took 1 to 2 seconds, and one took 100.
    for place in range(120):
        ended(engine, at=NOON + seconds(60 + place / 2), waited=1 + place / 119, ran=0.5)
    ended(engine, at=NOON + seconds(119.9), waited=80, ran=20)
    # A message of Celery's: how long it waited is not known.
    ended(engine, at=NOON + seconds(600), door="celery", waited=0, ran=3)
    for place in range(3):
        order = ended(
            engine,
            at=NOON + seconds(1200 + place),
            state="rejected",
            error=failure("OutOfStock", f"order {place} is short"),
        )
    dead = ended(
        engine,
        at=NOON + seconds(1800),
        state="dead",
        error=failure("Boom", HOSTILE),
        job_id=f"dead-{HOSTILE}",
    )
    ended(engine, at=NOON + seconds(1801), state="cancelled", has_began=False)
    person = ended(
        engine,
        at=NOON + seconds(1900),
        state="dead",
        kind=REGISTER,
        queue="users",
        error=failure("IntegrityError", MESSAGE),
        job_id="person",
    )
    for number, (job, error) in enumerate(
        [(dead, "Boom"), (dead, "Boom"), (order, "Boom"), (person, "IntegrityError")]
    ):
        attempt_failed(
            engine,
            job,
            at=NOON + seconds(300 + 60 * number),
            attempt=5 if number == 1 else 1,
            error=failure(error, MESSAGE if job == person else HOSTILE),
        )
    # The edges: what ends as the period begins is in it, what ends as it ends is not.
    ended(engine, at=NOON, jobs=2, has_began=False)
    ended(engine, at=NOON + HOUR, jobs=40)
    ended(engine, at=NOON - seconds(0.001), jobs=50)
    attempt_failed(engine, order, at=NOON - seconds(1), error=failure("Boom"))
    attempt_failed(engine, order, at=NOON + HOUR, error=failure("Boom"))


@pytest.fixture
def short_hour(engine: Engine) -> None:
    """Give an hour in which products were short, and files were imported."""
    lines = [
        {"line_id": "1", "sku": "LAMP", "requested": 7, "available": 3},
        {"line_id": "2", "sku": HOSTILE, "requested": 5, "available": 9},
    ]
    for at in (NOON, NOON + seconds(1), NOON - seconds(1), NOON + HOUR):
        happened(engine, "OutOfStock", {"order_id": "o", "lines": lines}, at=at)
    happened(engine, "LineBackordered", {"sku": "LAMP", "outstanding": 2}, at=NOON + seconds(9))
    happened(engine, "OrderAllocated", {"order_id": "o"}, at=NOON + seconds(9))
    ends = {"allocated": 6, "refused": 3, "failed": 1}
    imported(engine, "before", at=NOON - 2 * HOUR)
    imported(engine, "r1", at=NOON - MINUTE, ended_at=NOON + MINUTE, ends=ends)
    imported(engine, "r2", at=NOON + MINUTE, state="running", file_name=HOSTILE, rows=50, ends={})
    imported(engine, "after", at=NOON + HOUR)


def sum_up(engine: Engine, *, since: datetime = NOON, span: timedelta = HOUR) -> Summary:
    period: Period = PostgresPeriods(engine).sum_up(
        since=since, until=since + span, width=width_for(span)
    )
    return Summary(period=period, made_at=since + span)


@pytest.mark.usefixtures("busy_hour")
class TestFigures:
    def test_count_what_finished_in_the_period_and_nothing_else(self, engine: Engine) -> None:
        summary = sum_up(engine)
        assert summary.ends == {
            JobState.SUCCEEDED: 124,
            JobState.REJECTED: 3,
            JobState.DEAD: 2,
            JobState.CANCELLED: 1,
        }
        assert {kind: jobs.total() for kind, jobs in summary.by_kind.items()} == {
            ORDER: 129,
            REGISTER: 1,
        }
        # Those of the beginning were accepted before.
        assert summary.period.accepted == 124 - 2 + 3 + 2 + 1 + 40

    def test_are_rates_in_the_parts_in_which_jobs_finished(self, engine: Engine) -> None:
        summary = sum_up(engine)
        assert len(summary.parts) == 60
        assert summary.peak == pytest.approx(121 / 60)
        assert summary.rate(summary.parts[1]) == summary.peak
        assert summary.rate(summary.parts[2]) == 0

    def test_tell_how_long_jobs_waited_and_ran(self, engine: Engine) -> None:
        minute = sum_up(engine).period.times_by_part[NOON + MINUTE]
        assert (minute.jobs, minute.jobs_that_waited) == (121, 121)
        assert minute.waited is not None
        assert minute.ran is not None
        assert minute.took is not None
        assert minute.waited[0] == pytest.approx(1 + 60 / 119)
        assert minute.ran[0] == pytest.approx(0.5)
        assert minute.took[0] == pytest.approx(1.5 + 60 / 119)
        # Of 121 values, the 119.8th is the 99th percentile: between the last two of the 120.
        assert minute.waited[2] == pytest.approx(1 + 118.8 / 119)

    def test_know_when_jobs_began_that_a_worker_ran(self, engine: Engine) -> None:
        accept(engine, submission("fine"), submission("refused", "refuse"))
        do(engine, "UPDATE job SET created_at = now() - interval '40 seconds' WHERE id = 'fine'")
        executor = build_executor(engine, probe_kinds(Script()))
        executor.run_dispatched(Probe.kind, ["fine", "refused"], redelivered=False)
        now = PostgresPeriods(engine).now()
        times = sum_up(engine, since=now - HOUR).period.times_by_kind[Probe.kind]
        assert times.jobs == 2
        assert times.waited is not None
        assert times.ran is not None
        assert times.waited[2] > 30 > times.ran[2] > 0

    def test_do_not_say_that_a_message_waited_no_time(self, engine: Engine) -> None:
        part = sum_up(engine).period.times_by_part[NOON + 10 * MINUTE]
        assert (part.jobs, part.jobs_that_waited) == (1, 0)
        assert (part.waited, part.took) == (None, None)
        assert part.ran is not None
        assert part.ran[0] == pytest.approx(3)

    def test_leave_jobs_of_imports_out_of_the_course_of_time(self, engine: Engine) -> None:
        ended(
            engine,
            at=NOON + seconds(3000),
            kind="imports.import_file",
            queue="imports",
            waited=900,
        )
        period = sum_up(engine).period
        assert NOON + 50 * MINUTE not in period.times_by_part
        assert period.times_by_kind["imports.import_file"].jobs == 1

    def test_count_failed_attempts_and_those_that_were_the_last(self, engine: Engine) -> None:
        summary = sum_up(engine)
        assert summary.failed_attempts == 4
        assert summary.failed_by_part == {
            NOON + 5 * MINUTE: (1, 0),
            NOON + 6 * MINUTE: (0, 1),
            NOON + 7 * MINUTE: (1, 0),
            NOON + 8 * MINUTE: (1, 0),
        }

    def test_count_errors_the_commonest_first(self, engine: Engine) -> None:
        found = [
            (each.kind, each.error, each.is_refusal, each.times)
            for each in sum_up(engine).period.errors
        ]
        assert found == [
            (ORDER, "Boom", False, 3),
            (ORDER, "OutOfStock", True, 3),
            (REGISTER, "IntegrityError", False, 1),
        ]

    def test_list_the_dead_the_newest_first(self, engine: Engine) -> None:
        dead = sum_up(engine).period.dead
        assert [each.id for each in dead] == ["person", f"dead-{HOSTILE}"]

    def test_find_failures_among_many_by_their_ids(self, engine: Engine) -> None:
        order = ended(engine, at=NOON)
        do(
            engine,
            "INSERT INTO job_failure (job_id, attempt, error, worker, failed_at)"
            " SELECT %(id)s, 1, '{\"type\": \"Late\"}', 'w', %(at)s + number * interval '1 hour'"
            " FROM generate_series(2, 500) AS number",
            id=order,
            at=NOON,
        )
        later = sum_up(engine, since=NOON + 400 * HOUR)
        assert later.failed_attempts == 1
        assert sum_up(engine).failed_attempts == 4


@pytest.mark.usefixtures("short_hour")
class TestStockAndImports:
    def test_count_lines_that_found_too_little(self, engine: Engine) -> None:
        found = [
            (each.sku, each.refused, each.waiting, each.units)
            for each in sum_up(engine).period.short
        ]
        assert found == [("LAMP", 2, 1, 2 * 4 + 2), (HOSTILE, 2, 0, 0)]

    def test_show_the_runs_that_went_on_in_the_period(self, engine: Engine) -> None:
        period = sum_up(engine).period
        assert [run.id for run in period.runs] == ["r2", "r1"]
        assert period.runs_in_all == 2


class TestParts:
    @pytest.mark.parametrize(
        "span",
        [seconds(0.5), MINUTE, HOUR, timedelta(days=1), timedelta(days=30), timedelta(days=9000)],
    )
    def test_are_few_and_cover_the_period(self, span: timedelta) -> None:
        since = NOON + seconds(17.5)
        found = parts(since, since + span, width_for(span))
        assert 1 <= len(found) <= MOST_PARTS + 1
        assert (found[0].begin, found[-1].end) == (since, since + span)
        assert sum(part.seconds for part in found) == pytest.approx(span.total_seconds())
        assert all(a.end == b.begin for a, b in pairwise(found))

    def test_that_the_period_cuts_count_no_time_before_it(self, engine: Engine) -> None:
        ended(engine, at=NOON + seconds(59), jobs=10)
        summary = sum_up(engine, since=NOON + seconds(50))
        assert summary.rate(summary.parts[0]) == pytest.approx(1.0)


class TestCommand:
    @pytest.mark.usefixtures("busy_hour", "short_hour")
    def test_prints_tables_for_people(self, tallyman: Tallyman) -> None:
        ran = tallyman("report", *PERIOD)
        assert (ran.code, ran.err) == (0, "")
        for words in (
            "2026-03-02 12:00:00 to 2026-03-02 13:00:00 UTC (1 h)",
            "finished 130: 124 succeeded, 3 rejected, 2 dead, 1 cancelled",
            "4 attempts failed",
            "OutOfStock: order 0 is short",
            "LAMP",
            "sales.csv",
            "1.5 s/2.0 s/2.0 s",
        ):
            assert words in ran.out
        assert all(line.isprintable() for line in ran.out.splitlines())

    @pytest.mark.usefixtures("busy_hour", "short_hour")
    def test_prints_json_for_programs(self, tallyman: Tallyman) -> None:
        shown = tallyman("report", *PERIOD, "--json").json
        assert shown["finished"]["succeeded"] == 124
        assert shown["timezone"] == "UTC"
        assert shown["parts"][1]["succeeded"] == 121
        assert shown["kinds"][0]["seconds"]["ran"]["p50"] == pytest.approx(0.5)
        assert shown["stock_outs"][0] == {"sku": "LAMP", "refused": 2, "waiting": 1, "units": 10}
        assert shown["imports"][1]["ends"]["refused"] == 3

    @pytest.mark.usefixtures("busy_hour", "short_hour")
    @pytest.mark.parametrize("form", ["tables", "json", "page"])
    def test_tells_nothing_of_a_person(self, tallyman: Tallyman, tmp_path: Path, form: str) -> None:
        file = tmp_path / "report.html"
        options = {"tables": (), "json": ("--json",), "page": ("--html", file)}[form]
        ran = tallyman("report", *PERIOD, *options)
        told = ran.out + ran.err + (file.read_text() if file.exists() else "")
        assert "IntegrityError" in told
        assert "ada" not in told

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_of_a_period_in_which_nothing_happened_says_so(
        self, tallyman: Tallyman, options: tuple[str, ...]
    ) -> None:
        ran = tallyman("report", "--last", "5m", *options)
        assert ran.code == 0
        assert ("finished 0" in ran.out) or json.loads(ran.out)["finished"]["succeeded"] == 0

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            (("--since", "yesterday"), "no moment"),
            (("--since", "2026-03-02", "--last", "1h"), "not both"),
            (("--since", "2026-03-02", "--until", "2026-03-01"), "before it ends"),
            (("--since", "2999-01-01"), "before now"),
            (("--last", "soon"), "no length of time"),
        ],
    )
    def test_takes_no_period_that_is_none(
        self, tallyman: Tallyman, options: tuple[str, ...], why: str
    ) -> None:
        ran = tallyman("report", *options)
        assert (ran.code, ran.out) == (2, "")
        assert why in " ".join(ran.err.replace("│", " ").split())

    def test_says_what_to_install_for_a_page(
        self, tallyman: Tallyman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "vl_convert", None)
        ran = tallyman("report", "--html", tmp_path / "x.html")
        assert (ran.code, ran.out) == (2, "")
        assert "pip install '.[report]'" in ran.err
        assert tallyman("report").code == 0

    def test_says_that_the_file_cannot_be_written(self, tallyman: Tallyman, tmp_path: Path) -> None:
        ran = tallyman("report", "--html", tmp_path / "no" / "x.html")
        assert ran.code == 2
        assert "cannot be written" in ran.err


class Reader(HTMLParser):
    """Notes the tags, attributes and words of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


def read(page: str) -> Any:  # noqa: ANN401  a parser with what it found
    reader = Reader()
    reader.feed(page)
    return reader


class TestPage:
    @pytest.fixture
    def page(self, tallyman: Tallyman, tmp_path: Path, busy_hour: None, short_hour: None) -> str:
        file = tmp_path / "report.html"
        ran = tallyman("report", *PERIOD, "--html", file)
        assert (ran.code, ran.out) == (0, "")
        assert f"wrote {file}" in ran.err
        return file.read_text()

    def test_has_the_figures_in_tables(self, page: str) -> None:
        words = read(page).words
        for told in ("124", "OutOfStock: order 0 is short", "LAMP", "sales.csv", "person"):
            assert told in words

    def test_takes_names_for_words(self, page: str) -> None:
        found = read(page)
        assert "script" not in found.tags
        assert "</td><script>alert(1)</script>�[2J" in found.words
        assert "\x1b" not in page

    def test_asks_for_nothing_from_elsewhere(self, page: str) -> None:
        places = [
            value
            for name, value in read(page).attributes
            if name in {"src", "srcset", "href", "action", "data", "poster"}
        ]
        assert places
        assert all(place and place.startswith("data:") for place in places)
        assert "default-src 'none'" in page

    def test_tells_those_who_do_not_see_what_the_plots_show(self, page: str) -> None:
        found = read(page)
        alternatives = [value for name, value in found.attributes if name == "alt"]
        assert len(alternatives) == found.tags.count("img") == 7
        assert all(alternatives)
        assert found.tags.count("table") == 8
        assert found.tags.count("title") == 1

    def test_is_bounded(self, engine: Engine, tallyman: Tallyman, tmp_path: Path) -> None:
        for number in range(60):
            long = "x" * 5_000
            ended(
                engine,
                at=NOON + seconds(number),
                state="dead",
                kind=f"kind-{number}-{'k' * 100}",
                error=failure(f"Error{number}", long),
                job_id=f"{number}-{'i' * 200}",
            )
            ended(engine, at=NOON, state="rejected", error=failure(f"No{number}", long))
            line = {"sku": f"{number}-{'s' * 200}", "requested": 9, "available": 0}
            happened(engine, "OutOfStock", {"lines": [line]}, at=NOON)
            imported(engine, f"r{number}", at=NOON, file_name=f"{number}-{long}")
        file = tmp_path / "report.html"
        assert tallyman("report", *PERIOD, "--html", file).code == 0
        assert file.stat().st_size < 1_500_000
        assert "The first 50 of 60." in file.read_text()

    @pytest.mark.parametrize("jobs", [0, 1])
    def test_is_sensible_with_hardly_anything_to_tell(
        self, engine: Engine, tallyman: Tallyman, tmp_path: Path, jobs: int
    ) -> None:
        if jobs:
            ended(engine, at=NOON + MINUTE)
        file = tmp_path / "report.html"
        assert tallyman("report", *PERIOD, "--html", file).code == 0
        words = read(file.read_text()).words
        assert ("No job finished in this period." in words) == (not jobs)
        assert "No job that died in this period is dead now." in words
