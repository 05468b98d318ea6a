"""`tallyman demo`: what a newcomer runs first."""

from adapters.embedded.servers import EmbeddedServers
from tests.integration.processes.conftest import Installation
from worker import leftovers


class TestDemo:
    def test_shows_all_there_is_and_leaves_nothing(self, installation: Installation) -> None:
        shown = installation.run("demo", "--orders", "300", seconds=500)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        for part in ("Jobs by outcome", "Orders by state", "Pace", "Why?", "0 of "):
            assert part in shown.stdout
        for reason in ("lock timeout", "InvalidSku", "InvalidPayload"):
            assert reason in shown.stdout
        folder = installation.data_folder / "demo"
        assert leftovers.find(folder) == []
        assert [path.name for path in folder.iterdir()] == ["up.lock"]
        assert EmbeddedServers(folder).addresses() is None
