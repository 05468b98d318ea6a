"""An import during which all goes wrong ends as one that was left alone."""

from benchmarks.imports.disturbed import imported

LINES = 20_000


class TestADisturbedImport:
    def test_ends_as_one_that_was_left_alone(self) -> None:
        calm, _, _ = imported(LINES, disturbed=False)
        rough, _, happened = imported(LINES, disturbed=True)
        assert rough == calm
        assert len(happened) == 5, happened
