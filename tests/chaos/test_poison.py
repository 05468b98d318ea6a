"""Orders that kill the process that places them, in every way that one can die."""

from pathlib import Path

from tests.chaos.poison import SETTINGS, Dose, take
from tests.chaos.poisoned import REASONS, SORTS
from tests.chaos.programs import Programs

DOSE = Dose(good=300, poison=list(SORTS))


class TestPoison:
    def test_knows_the_reason_for_every_sort(self) -> None:
        assert REASONS.keys() == SORTS.keys()

    def test_is_dead_with_its_reason_while_all_its_neighbours_are_placed(
        self, database_url: str, broker_url: str, tmp_path: Path
    ) -> None:
        programs = Programs(
            folder=tmp_path,
            database_url=database_url,
            broker_url=broker_url,
            settings={**SETTINGS, "concurrency": 4},
        )

        findings = take(DOSE, programs, within=300)

        assert findings.problems(DOSE) == []
        assert {job.door for job in findings.poison} == {"celery", "ledger"}
        for job in findings.poison:
            # Who reads it knows what to do.
            assert job.reason != "WorkerLost" or f"tallyman jobs retry {job.id}" in str(job.message)
