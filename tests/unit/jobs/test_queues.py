"""What operators set for queues, and what follows from it."""

from datetime import UTC, datetime

import pytest

from domain.jobs.errors import MOST_WAIT_SECONDS, UNKNOWN_WAIT_SECONDS, QueueFull
from domain.jobs.queues import (
    BURST_SECONDS,
    MOST_PACED_MESSAGES,
    Queue,
    QueueLevel,
    QueueSettings,
    by_priority,
    held_back_by,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def a_queue(
    name: str,
    *,
    priority: int = 0,
    paused: bool = False,
    rate: float | None = None,
    messages: int | None = 0,
    due: bool = False,
) -> Queue:
    return Queue(
        settings=QueueSettings(
            name=name,
            priority=priority,
            paused_at=NOW if paused else None,
            jobs_per_second=rate,
        ),
        level=QueueLevel(
            waiting=9, jobs_per_second=1, messages=messages, due_since=NOW if due else None
        ),
    )


class TestAMessage:
    def test_runs_where_nothing_was_said(self) -> None:
        assert QueueSettings(name="users").objection(pace=None) is None

    def test_does_not_run_while_its_queue_is_paused(self) -> None:
        paused = QueueSettings(name="users", paused_at=NOW, pause_reason="stock take")
        assert paused.objection(pace=5.0) == "queue users is paused: stock take"

    def test_of_a_limited_queue_runs_where_it_was_handed_out_no_faster(self) -> None:
        limited = QueueSettings(name="users", jobs_per_second=10)
        held = [pace for pace in (None, 11.0, 10, 3) if limited.objection(pace=pace)]
        assert held == [None, 11.0]


class TestALimitedQueue:
    @pytest.mark.parametrize("rate", [0.001, 1, 3.9, 17, 64, 5_000, 1_000_000])
    def test_has_no_more_messages_in_the_broker_than_a_burst_has_jobs(self, rate: float) -> None:
        most = QueueSettings(name="users", jobs_per_second=rate).most_messages
        assert most is not None
        assert 1 <= most <= MOST_PACED_MESSAGES
        assert most <= rate * BURST_SECONDS + 1

    def test_alone_has_such_a_bound(self) -> None:
        assert QueueSettings(name="users").most_messages is None


class TestPriority:
    def test_puts_queues_into_levels_and_leaves_out_the_paused(self) -> None:
        settings = {
            "b": QueueSettings(name="b", priority=5),
            "c": QueueSettings(name="c", priority=9, paused_at=NOW),
            "d": QueueSettings(name="d", priority=-1),
        }
        levels = by_priority(["a", "b", "c", "d", "e"], settings)
        assert [[each.name for each in level] for level in levels] == [["b"], ["a", "e"], ["d"]]

    @pytest.mark.parametrize(
        "ahead",
        [
            a_queue("users", priority=1, messages=1),
            a_queue("users", priority=1, due=True),
            a_queue("users", priority=1, rate=1, messages=1),
        ],
    )
    def test_holds_back_a_queue_while_one_ahead_has_a_backlog(self, ahead: Queue) -> None:
        queue = a_queue("allocation")
        assert held_back_by(queue, [queue, ahead]) == ["users"]

    @pytest.mark.parametrize(
        "other",
        [
            a_queue("users", priority=1, messages=None),
            a_queue("users", priority=0, messages=1, due=True),
            a_queue("users", priority=1, paused=True, messages=1, due=True),
            # What waits for its rate leaves the workers to others.
            a_queue("users", priority=1, rate=1, due=True),
        ],
    )
    def test_holds_back_nobody_otherwise(self, other: Queue) -> None:
        queue = a_queue("allocation")
        assert held_back_by(queue, [queue, other]) == []


class TestAFullQueue:
    @pytest.mark.parametrize(
        ("waiting", "wanted", "rate", "seconds"),
        [
            (100, 1, 10.0, 1),
            (100, 50, 10.0, 5),
            (300, 1, 10.0, 21),
            (100, 1, 0.0, UNKNOWN_WAIT_SECONDS),
            (100, 1, 0.000_1, MOST_WAIT_SECONDS),
            # More than there will ever be room for: after all of it has run, at the latest.
            (10, 5_000, 1.0, 10),
        ],
    )
    def test_says_when_there_may_be_room(
        self, waiting: int, wanted: int, rate: float, seconds: int
    ) -> None:
        full = QueueFull.of(
            "users", wanted=wanted, waiting=waiting, limit=100, jobs_per_second=rate
        )
        assert full.details == {
            "queue": "users",
            "waiting": waiting,
            "limit": 100,
            "retry_after_seconds": seconds,
        }
        told = "hand over fewer at once" if wanted > 100 else f"try again in {seconds} s"
        assert str(full).endswith(told)
