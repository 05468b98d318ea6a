"""`tallyman migrate` on a server that is set, and on one of its own."""

import psycopg
import pytest

from adapters.embedded.servers import EmbeddedServers
from tests.integration.processes.conftest import Installation, all_gone


class TestMigrateCheck:
    def test_brings_its_own_server(self, installation: Installation) -> None:
        checked = installation.run("migrate", "check")
        assert checked.returncode == 0, checked.stderr
        assert not EmbeddedServers(installation.data_folder).postgres.running()

    def test_leaves_no_database_on_a_server_that_is_set(self, connected: Installation) -> None:
        checked = connected.run("migrate", "check")
        assert checked.returncode == 0, checked.stderr
        url = connected.variables["TALLYMAN_DATABASE_URL"].replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            left = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE 'tallyman_scratch_%'"
            ).fetchall()
        assert left == []


class TestMigrateUpgrade:
    def test_starts_the_embedded_server(self, installation: Installation) -> None:
        first = installation.run("migrate", "upgrade")
        assert first.returncode == 0, first.stderr
        assert installation.run("migrate", "current").returncode == 0
        again = installation.run("migrate", "upgrade")
        assert "as before" in again.stdout
        running = installation.remains()
        assert installation.run("down", "--remove-data").returncode == 0
        assert all_gone(running)
        assert not EmbeddedServers(installation.data_folder).postgres.data_folder.exists()
        assert installation.remains() == []

    @pytest.mark.parametrize("command", ["upgrade", "current", "check"])
    def test_says_when_the_server_is_away(self, command: str, connected: Installation) -> None:
        connected.variables = {
            **connected.variables,
            "TALLYMAN_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d",
        }
        refused = connected.run("migrate", command)
        assert refused.returncode == 4
        [line] = refused.stderr.splitlines()
        assert "PostgreSQL is away" in line
