import socket
import stat
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from adapters.embedded.errors import ServerDidNotStart, ServerNeverStarted, UnreadableState
from adapters.embedded.valkey import ValkeyServer

ONCE = Retry(NoBackoff(), 0)


def client_of(server: ValkeyServer) -> redis.Redis:
    return redis.Redis.from_url(server.url(), decode_responses=True)


def process_of(server: ValkeyServer) -> psutil.Process:
    assert server.pid is not None
    return psutil.Process(server.pid)


class TestStart:
    def test_keeps_the_data_and_the_port_of_the_last_run(self, valkey: ValkeyServer) -> None:
        valkey.start()
        url = valkey.url()
        with client_of(valkey) as client:
            client.set("crate", "3")
        valkey.stop()
        valkey.start()
        assert valkey.url() == url
        with client_of(valkey) as client:
            assert client.get("crate") == "3"

    def test_recovers_from_a_kill(self, valkey: ValkeyServer) -> None:
        valkey.start()
        with client_of(valkey) as client:
            client.set("crate", "3")
            # Answers once the write is on disk, so that the kill cannot take it.
            assert client.execute_command("WAITAOF", 1, 0, 0) == [1, 0]
        valkey.kill()
        assert not valkey.running()
        valkey.start()
        with client_of(valkey) as client:
            assert client.get("crate") == "3"

    def test_recovers_from_a_file_cut_short(self, valkey: ValkeyServer) -> None:
        valkey.start()
        with client_of(valkey) as client:
            client.mset({"crate": "3", "barrel": "4"})
        valkey.stop()
        (written,) = (valkey.folder / "data" / "appendonlydir").glob("*.incr.aof")
        with written.open("ab") as file:
            file.write(b"*3\r\n$3\r\nSET\r\n$5\r\ncr")
        valkey.start()
        with client_of(valkey) as client:
            assert client.get("barrel") == "4"

    def test_takes_another_port_when_the_old_one_is_taken(self, valkey: ValkeyServer) -> None:
        valkey.start()
        valkey.stop()
        with socket.socket() as squatter:
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            squatter.bind(("127.0.0.1", valkey.port))
            squatter.listen()
            valkey.start()
            assert valkey.port != squatter.getsockname()[1]

    def test_takes_settings_but_keeps_to_loopback(self, valkey: ValkeyServer) -> None:
        valkey.start({"maxmemory": "100mb", "bind": "*"})
        with client_of(valkey) as client:
            assert client.config_get("maxmemory") == {"maxmemory": str(100 * 1024 * 1024)}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("append*")["appendfsync"] == "everysec"
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("bind") == {"bind": "127.0.0.1"}

    def test_quotes_the_log_when_the_server_refuses(self, valkey: ValkeyServer) -> None:
        with pytest.raises(ServerDidNotStart, match="Bad directive"):
            valkey.start({"no-such-setting": "1"})

    def test_works_in_a_folder_with_an_awkward_name(self, folder: Path) -> None:
        server = ValkeyServer(folder / 'a "quoted" name')
        server.start()
        try:
            with client_of(server) as client:
                assert client.ping() is True
        finally:
            server.stop()
        assert (server.folder / "data" / "appendonlydir").exists()


class TestUrl:
    def test_complains_of_a_state_it_cannot_read(self, valkey: ValkeyServer) -> None:
        valkey.folder.mkdir(exist_ok=True)
        remembered = valkey.folder / "server.json"
        remembered.write_text("{")
        with pytest.raises(UnreadableState, match="restore it"):
            valkey.url()
        remembered.unlink()

    def test_is_refused_before_the_first_start(self, valkey: ValkeyServer) -> None:
        with pytest.raises(ServerNeverStarted, match="start it first"):
            valkey.url()

    def test_names_a_database(self, valkey: ValkeyServer) -> None:
        valkey.start()
        assert valkey.url(2) == f"{valkey.url().removesuffix('/0')}/2"


class TestAccess:
    @pytest.mark.parametrize("password", ["guess", None])
    def test_is_refused_to_a_wrong_password(
        self, valkey: ValkeyServer, password: str | None
    ) -> None:
        valkey.start()
        with (
            redis.Redis(port=valkey.port, password=password, retry=ONCE) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()

    def test_hides_its_password_from_other_accounts(self, valkey: ValkeyServer) -> None:
        valkey.start()
        secret = valkey.url().split("@")[0].rsplit(":", 1)[1]
        for name in ("server.json", "valkey.conf"):
            assert secret in (valkey.folder / name).read_text()
            assert stat.S_IMODE((valkey.folder / name).stat().st_mode) == 0o600
        assert secret not in " ".join(process_of(valkey).cmdline())
        assert secret not in valkey.log.read_text()
