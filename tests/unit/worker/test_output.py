"""What commands print of what others have named."""

import pytest

from worker.command.output import show_fields, show_table

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202efdp"


class TestCells:
    def test_move_no_cursor(self, capsys: pytest.CaptureFixture[str]) -> None:
        show_table("Jobs", ("id",), [(HOSTILE,), ("one\ntwo",)])
        show_fields({"id": HOSTILE})
        shown = capsys.readouterr().out
        assert all(line.isprintable() for line in shown.splitlines())
        assert "[2J" in shown
        assert [line.strip() for line in shown.splitlines() if line.strip() in {"one", "two"}] == [
            "one",
            "two",
        ]
