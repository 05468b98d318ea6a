"""How a relay or a beat stands."""

from pathlib import Path

import pytest

from worker.heartbeat import FRESH_SECONDS, Heartbeat
from worker.standing import WEDGED_SECONDS, Away, Rounds


@pytest.fixture
def heartbeat(tmp_path: Path) -> Heartbeat:
    return Heartbeat(data_folder=tmp_path, process="relay")


@pytest.fixture
def away() -> Away:
    return Away()


@pytest.fixture
def rounds(heartbeat: Heartbeat, away: Away) -> Rounds:
    return Rounds(heartbeat=heartbeat, objection=lambda: away.objection)


class TestRounds:
    def test_are_ready_while_they_are_made(self, rounds: Rounds) -> None:
        assert rounds.stand().is_ready

    def test_say_why_they_are_in_vain(self, rounds: Rounds, away: Away) -> None:
        away.tell("PostgreSQL is away")
        standing = rounds.stand()
        assert (standing.is_live, standing.is_ready) == (True, False)
        assert standing.detail == "PostgreSQL is away"
        away.tell(None)
        assert rounds.stand().is_ready

    @pytest.mark.parametrize(
        ("age", "is_live"), [(FRESH_SECONDS + 1, True), (WEDGED_SECONDS + 1, False)]
    )
    def test_that_are_not_made_any_more_call_for_a_new_process(
        self,
        rounds: Rounds,
        heartbeat: Heartbeat,
        monkeypatch: pytest.MonkeyPatch,
        *,
        age: float,
        is_live: bool,
    ) -> None:
        monkeypatch.setattr(heartbeat, "_beaten_at", heartbeat._beaten_at - age)
        standing = rounds.stand()
        assert (standing.is_live, standing.is_ready) == (is_live, False)
        assert "did not go round" in standing.detail
        heartbeat.beat()
        assert rounds.stand().is_ready
