"""Whatever keeps a promise is missed when it is switched off."""

from pathlib import Path

import pytest

from adapters.embedded.servers import Addresses
from tests.chaos.mutations.playing import Server, play


# Later Pythons warn of forks beside threads; a child here runs none of the parent's.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestMutations:
    def test_are_noticed_and_their_loads_are_well_without_them(
        self, servers: Addresses, tmp_path: Path
    ) -> None:
        server = Server(tmp_path, url=servers.database_url, broker_url=servers.broker_url)
        controls, results = play(server)
        assert [(each.load, each.noticed) for each in controls if each.noticed] == []
        assert [each.name for each in results if not each.noticed] == []
