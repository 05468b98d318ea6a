"""The command, as the tests of commands run it, and all the time that a look may need."""

import pytest

from adapters.postgres import board
from tests.integration.command.conftest import home, lonely_tallyman, tallyman

__all__ = ["home", "lonely_tallyman", "tallyman"]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no look given up because the machine is busy; what is tested of that says so."""
    monkeypatch.setattr(board, "LOOK_SECONDS", 60)
