"""The command, as the tests of commands run it."""

from tests.integration.command.conftest import home, lonely_tallyman, tallyman

__all__ = ["home", "lonely_tallyman", "tallyman"]
