"""`tallyman queues`: look at queues and control them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine

from adapters.postgres.queue_gauges import PostgresQueueGauges
from domain.jobs.queues import QUEUES
from tests.integration.command.conftest import Tallyman
from worker.command import submit
from worker.handing_over import Patience

BATCH = '{"reference": "b1", "sku": "LAMP", "quantity": 5}'


def queue(tallyman: Tallyman, name: str = "allocation") -> Mapping[str, Any]:
    ran = tallyman("queues", "--json")
    assert ran.code == 0
    [found] = [each for each in ran.json if each["queue"] == name]
    assert isinstance(found, dict)
    return found


class TestQueues:
    def test_shows_all_of_them_while_no_relay_runs(self, tallyman: Tallyman) -> None:
        tallyman("submit", "allocation.create_batch", BATCH)
        ran = tallyman("queues")
        assert ran.code == 0
        assert all(name in ran.out for name in QUEUES)
        assert "no relay measures the queues" in ran.err
        allocation = queue(tallyman)
        assert (allocation["waiting"], allocation["messages"]) == (1, None)
        assert allocation["due_since"] is not None
        assert allocation["measured_seconds_ago"] is None

    def test_shows_what_a_relay_measured(self, tallyman: Tallyman, engine: Engine) -> None:
        tallyman("submit", "allocation.create_batch", BATCH)
        PostgresQueueGauges(engine).measure(QUEUES, messages={"allocation": 3}, every=1)
        allocation = queue(tallyman)
        assert (allocation["waiting"], allocation["messages"]) == (1, 3)
        assert allocation["jobs_per_second"] == 0
        assert tallyman("queues").err == ""

    def test_shows_who_waits_for_whom(self, tallyman: Tallyman) -> None:
        tallyman("submit", "allocation.create_batch", BATCH)
        tallyman("queues", "priority", "allocation", "2")
        assert "waits for" not in tallyman("queues").out
        user = '{"username": "ada", "email": "ada@example.com", "name": "Ada"}'
        tallyman("submit", "users.register", user)
        assert "waits for allocation" in tallyman("queues").out
        assert queue(tallyman, "users")["waits_for"] == ["allocation"]

    def test_says_what_is_away(self, lonely_tallyman: Tallyman) -> None:
        for command in (["queues"], ["queues", "pause", "users"]):
            assert lonely_tallyman(*command).code == 4


class TestPause:
    def test_tells_since_when_and_why(self, tallyman: Tallyman) -> None:
        ran = tallyman("queues", "pause", "users", "--reason", "stock take")
        assert ran.code == 0
        assert ran.out.startswith("paused users since ")
        assert ran.out.endswith(": stock take\n")
        assert queue(tallyman, "users")["pause_reason"] == "stock take"
        assert "paused: stock take" in tallyman("queues").out

    def test_takes_several_or_all(self, tallyman: Tallyman) -> None:
        tallyman("queues", "pause", "users", "allocation")
        assert queue(tallyman)["paused_at"]
        assert queue(tallyman, "users")["paused_at"]
        assert not queue(tallyman, "imports")["paused_at"]
        tallyman("queues", "pause", "--all")
        assert queue(tallyman, "imports")["paused_at"]
        resumed = tallyman("queues", "resume", "--all")
        assert resumed.out.splitlines() == [f"resumed {name}" for name in QUEUES]
        assert not queue(tallyman)["paused_at"]

    def test_is_ended_once(self, tallyman: Tallyman) -> None:
        tallyman("queues", "pause", "users")
        assert tallyman("queues", "resume", "users").out == "resumed users\n"
        again = tallyman("queues", "resume", "users")
        assert (again.code, again.out) == (0, "users was not paused\n")

    @pytest.mark.parametrize("reason", ["", "two\nlines", "x" * 201])
    def test_takes_a_reason_of_one_line(self, tallyman: Tallyman, reason: str) -> None:
        assert tallyman("queues", "pause", "users", "--reason", reason).code == 2

    def test_needs_names_or_all(self, tallyman: Tallyman) -> None:
        assert tallyman("queues", "pause").code == 2
        assert tallyman("queues", "pause", "users", "--all").code == 2


class TestAnUnknownQueue:
    @pytest.mark.parametrize(
        "command",
        [
            ("pause", "user"),
            ("pause", "users", "user"),
            ("resume", "user"),
            ("rate", "user", "5"),
            ("priority", "user", "5"),
            ("limit", "user", "5"),
        ],
    )
    def test_is_told_with_the_names_there_are(
        self, tallyman: Tallyman, engine: Engine, command: tuple[str, ...]
    ) -> None:
        ran = tallyman("queues", *command)
        assert ran.code == 3
        assert ran.err == (
            "error: no queue is called 'user'; known: allocation, users, imports, maintenance\n"
        )
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT FROM queue").all() == []


class TestSettings:
    def test_are_kept_and_taken_back(self, tallyman: Tallyman) -> None:
        assert tallyman("queues", "rate", "users", "2.5").code == 0
        assert tallyman("queues", "priority", "users", "-3").code == 0
        assert tallyman("queues", "limit", "users", "1000").code == 0
        users = queue(tallyman, "users")
        assert (users["rate"], users["priority"], users["limit"]) == (2.5, -3, 1000)
        tallyman("queues", "rate", "users", "none")
        tallyman("queues", "priority", "users", "0")
        tallyman("queues", "limit", "users", "none")
        users = queue(tallyman, "users")
        assert (users["rate"], users["priority"], users["limit"]) == (None, 0, 1_000_000)

    @pytest.mark.parametrize(
        "command",
        [
            *(("rate", "users", rate) for rate in ("0", "-1", "nan", "inf", "fast", "1e9", "")),
            *(("limit", "users", limit) for limit in ("0", "-1", "1.5", "10000001", "²", "")),
            *(("priority", "users", priority) for priority in ("10", "-10", "high")),
        ],
    )
    def test_are_checked(self, tallyman: Tallyman, command: tuple[str, ...]) -> None:
        assert tallyman("queues", *command).code == 2
        assert queue(tallyman, "users")["waiting"] == 0

    def test_are_told_to_programs_as_well(self, tallyman: Tallyman) -> None:
        def told(*command: str) -> Any:  # noqa: ANN401  whatever the command says
            return tallyman("queues", *command, "--json").json

        [paused] = told("pause", "users", "--reason", "why")
        assert (paused["queue"], paused["pause_reason"]) == ("users", "why")
        assert told("resume", "users", "imports") == [
            {"queue": "users", "resumed": True},
            {"queue": "imports", "resumed": False},
        ]
        assert told("rate", "users", "5") == {"queue": "users", "rate": 5}
        assert told("rate", "users", "none") == {"queue": "users", "rate": None}
        assert told("priority", "users", "5") == {"queue": "users", "priority": 5}
        assert told("limit", "users", "5") == {"queue": "users", "limit": 5}

    def test_wake_the_relay(self, tallyman: Tallyman, engine: Engine) -> None:
        for command in (
            ("pause", "users"),
            ("resume", "users"),
            ("rate", "users", "5"),
            ("priority", "users", "5"),
        ):
            with engine.connect() as connection:
                connection.exec_driver_sql("LISTEN tallyman_job")
                connection.commit()
                tallyman("queues", *command)
                driver = connection.connection.driver_connection
                assert driver is not None
                assert list(driver.notifies(timeout=60, stop_after=1)), command
                connection.invalidate()


class TestAFullQueue:
    def test_refuses_a_job_and_says_when_to_try_again(self, tallyman: Tallyman) -> None:
        tallyman("queues", "limit", "allocation", "1")
        tallyman("submit", "allocation.create_batch", BATCH, "--id", "j1")
        ran = tallyman("submit", "allocation.create_batch", BATCH, "--id", "j2")
        assert (ran.code, ran.out) == (5, "")
        assert ran.err == (
            "error: queue 'allocation' is full: 1 of at most 1 jobs wait in it; try again in 60 s\n"
        )
        known = tallyman("submit", "allocation.create_batch", BATCH, "--id", "j1")
        assert known.code == 0

    def test_is_waited_for_no_longer_than_was_said(
        self, tallyman: Tallyman, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # By a clock of its own: a machine that stood still for a second would have waited already.
        slept: list[float] = []
        patience = partial(Patience, sleep=slept.append, clock=lambda: sum(slept))
        monkeypatch.setattr(submit, "Patience", patience)
        tallyman("queues", "limit", "allocation", "1")
        tallyman("submit", "allocation.create_batch", BATCH, "--id", "j1")
        ran = tallyman(
            *("submit", "allocation.create_batch", BATCH, "--id", "j2"),
            *("--wait-for-room", "1"),
        )
        assert ran.code == 5
        assert ran.err.startswith(
            "waiting for room in queue 'allocation': 1 of at most 1 jobs wait in it\n"
        )
        assert sum(slept) == 1

    def test_takes_lines_until_there_is_no_room(self, tallyman: Tallyman) -> None:
        tallyman("queues", "limit", "allocation", "3")
        tallyman("submit", "allocation.create_batch", BATCH)
        ran = tallyman(
            *("submit", "allocation.create_batch", "--jsonl", "-", "--all-or-nothing"),
            stdin="\n".join([BATCH] * 3),
        )
        assert ran.code == 5
        assert queue(tallyman)["waiting"] == 1
        ran = tallyman(
            *("submit", "allocation.create_batch", "--jsonl", "-", "--json"),
            stdin="\n".join([BATCH] * 3),
        )
        assert ran.code == 5
        assert [job["line"] for job in ran.json["jobs"]] == [1, 2]
        assert "lines after 2 were not handed over" in ran.err
