import os
import signal
import socket
import stat
from pathlib import Path

import psutil
import psycopg
import pytest

from adapters.embedded.errors import ServerDidNotStart, ServerNeverStarted
from adapters.embedded.postgres import PostgresServer
from adapters.embedded.processes import end


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def count_rows(server: PostgresServer) -> int:
    with connect(server.url()) as connection:
        counted = connection.execute("SELECT count(*) FROM cargo").fetchone()
    assert counted is not None
    return int(counted[0])


@pytest.fixture
def loaded(postgres: PostgresServer) -> PostgresServer:
    """Start a server that holds three rows."""
    postgres.start()
    with connect(postgres.url()) as connection:
        connection.execute("DROP TABLE IF EXISTS cargo")
        connection.execute("CREATE TABLE cargo AS SELECT generate_series(1, 3) AS crate")
    return postgres


def process_of(server: PostgresServer) -> psutil.Process:
    assert server.pid is not None
    return psutil.Process(server.pid)


def kill(server: PostgresServer) -> None:
    """Kill a server and wait until it is gone: until then a start would find it running."""
    assert end([process_of(server)], signal=signal.SIGKILL, seconds=10)


class TestStart:
    def test_gives_a_role_that_copies_databases_and_makes_roles(
        self, postgres: PostgresServer
    ) -> None:
        postgres.start()
        with connect(postgres.url()) as connection:
            connection.execute("CREATE ROLE reader")
            connection.execute("CREATE TABLE pallet (crate int)")
        with connect(postgres.url("postgres")) as connection:
            connection.execute("CREATE DATABASE copied TEMPLATE tallyman")
        with connect(postgres.url("copied")) as connection:
            assert connection.execute("SELECT FROM pallet").fetchall() == []

    def test_knows_the_case_of_every_letter(self, postgres: PostgresServer) -> None:
        postgres.start()
        with connect(postgres.url()) as connection:
            assert connection.execute("SELECT lower('ÅNGSTRÖM')").fetchone() == ("ångström",)
            assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)

    def test_takes_settings_but_keeps_to_loopback(self, postgres: PostgresServer) -> None:
        postgres.start({"max_connections": "33", "listen_addresses": "*"})
        with connect(postgres.superuser_url()) as connection:
            assert connection.execute("SHOW max_connections").fetchone() == ("33",)
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)

    def test_keeps_the_data_and_the_port_of_the_last_run(self, loaded: PostgresServer) -> None:
        url = loaded.url()
        loaded.stop()
        loaded.start()
        assert loaded.url() == url
        assert count_rows(loaded) == 3

    def test_takes_another_port_when_the_old_one_is_taken(self, loaded: PostgresServer) -> None:
        loaded.stop()
        with socket.socket() as squatter:
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            squatter.bind(("127.0.0.1", loaded.port))
            squatter.listen()
            loaded.start()
            assert loaded.port != squatter.getsockname()[1]
        assert count_rows(loaded) == 3

    def test_recovers_from_a_kill_with_sessions_open(self, loaded: PostgresServer) -> None:
        with connect(loaded.url()) as session:
            session.execute("INSERT INTO cargo VALUES (4)")
            kill(loaded)
            loaded.start()
            assert count_rows(loaded) == 4

    def test_ends_sessions_that_outlive_a_killed_server(self, loaded: PostgresServer) -> None:
        with connect(loaded.url()) as session:
            backend = psutil.Process(session.info.backend_pid)
            # Stopped, it cannot notice that its server is gone, and holds the shared memory.
            backend.suspend()
            kill(loaded)
            loaded.start()
            psutil.wait_procs([backend], timeout=60)
            assert not backend.is_running()
        assert count_rows(loaded) == 3

    def test_ignores_a_stale_process_id_that_lives_on_as_another(
        self, loaded: PostgresServer
    ) -> None:
        pid_file = loaded.data_folder / "postmaster.pid"
        left = pid_file.read_text()
        kill(loaded)
        loaded.stop()
        pid_file.write_text(left.replace(left.split()[0], str(os.getppid()), 1))
        loaded.start()
        assert count_rows(loaded) == 3

    def test_recovers_from_an_immediate_stop(self, loaded: PostgresServer) -> None:
        loaded.stop("immediate")
        assert not loaded.running()
        loaded.start()
        assert count_rows(loaded) == 3

    def test_quotes_the_log_when_the_server_refuses(self, postgres: PostgresServer) -> None:
        with pytest.raises(ServerDidNotStart, match="invalid value for parameter"):
            postgres.start({"shared_buffers": "plenty"})
        assert not postgres.running()

    def test_asks_for_lost_passwords_instead_of_starting_empty(
        self, loaded: PostgresServer
    ) -> None:
        loaded.stop()
        remembered = loaded.folder / "server.json"
        text = remembered.read_text()
        remembered.unlink()
        with pytest.raises(ServerDidNotStart, match="restore that file"):
            loaded.start()
        remembered.write_text(text)
        loaded.start()
        assert count_rows(loaded) == 3


class TestUrl:
    def test_is_refused_before_the_first_start(self, folder: Path) -> None:
        with pytest.raises(ServerNeverStarted, match="start it first"):
            PostgresServer(folder).url()


class TestAccess:
    def test_is_refused_to_a_wrong_password(self, postgres: PostgresServer) -> None:
        postgres.start()
        for user in ("tallyman", "postgres"):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(
                    host="127.0.0.1",
                    port=postgres.port,
                    user=user,
                    password="guess",
                    dbname="tallyman",
                )

    def test_hides_its_passwords_from_other_accounts(self, postgres: PostgresServer) -> None:
        postgres.start()
        secret = postgres.url().split("@")[0].rsplit(":", 1)[1]
        remembered = postgres.folder / "server.json"
        assert secret in remembered.read_text()
        assert stat.S_IMODE(remembered.stat().st_mode) == 0o600
        assert secret not in " ".join(process_of(postgres).cmdline())
        assert secret not in postgres.log.read_text()
        assert stat.S_IMODE(postgres.data_folder.stat().st_mode) == 0o700
        assert list(postgres.folder.glob("*partial*")) == []


class TestStop:
    def test_does_not_touch_a_process_that_took_over_the_id(self, loaded: PostgresServer) -> None:
        loaded.stop()
        remembered = loaded.folder / "server.json"
        stale = remembered.read_text().replace('"pid": null', f'"pid": {os.getpid()}')
        remembered.write_text(stale.replace('"ready": false', '"ready": true'))
        assert not loaded.running()
        # A signal here would interrupt the tests themselves.
        loaded.stop()
        loaded.start()
        assert count_rows(loaded) == 3
