import json
import os
import signal
import stat
from pathlib import Path

import psutil
import psycopg
import redis

from adapters.embedded.servers import Addresses, EmbeddedServers
from tests.integration.embedded.conftest import START, Python


def answer(addresses: Addresses) -> bool:
    url = addresses.database_url.replace("+psycopg", "")
    with psycopg.connect(url) as connection, redis.Redis.from_url(addresses.broker_url) as client:
        return connection.execute("SELECT 1").fetchone() == (1,) and client.ping() is True


def running_on(folder: Path, program: str) -> list[int]:
    """Return the ids of servers; a child just forked has its server's command line, too."""
    found = {}
    for process in psutil.process_iter(["cmdline", "ppid"]):
        command = process.info["cmdline"] or [""]
        if Path(command[0]).name == program and any(str(folder) in part for part in command):
            found[process.pid] = process.info["ppid"]
    return [pid for pid, parent in found.items() if parent not in found]


def password_in(url: str) -> str:
    return url.split("@", maxsplit=1)[0].rsplit(":", maxsplit=1)[1]


class TestStart:
    def test_gives_addresses_that_answer(self, servers: EmbeddedServers) -> None:
        addresses = servers.start()
        assert addresses.database_url == (
            f"postgresql+psycopg://tallyman:{password_in(addresses.database_url)}"
            f"@127.0.0.1:{servers.postgres.port}/tallyman"
        )
        assert addresses.broker_url == (
            f"redis://:{password_in(addresses.broker_url)}@127.0.0.1:{servers.valkey.port}/0"
        )
        assert answer(addresses)

    def test_adopts_what_another_process_started(
        self, servers: EmbeddedServers, python: Python
    ) -> None:
        theirs = json.loads(python.run(START, servers.folder))
        pids = servers.postgres.pid, servers.valkey.pid
        assert None not in pids
        assert servers.start() == Addresses(**theirs) == servers.addresses()
        assert (servers.postgres.pid, servers.valkey.pid) == pids

    def test_keeps_the_servers_out_of_reach_of_ctrl_c(
        self, servers: EmbeddedServers, python: Python
    ) -> None:
        # Whoever runs these tests in the background has Ctrl-C ignored by all that they start.
        heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        waiting = f"{heeding}\n{START}\nsignal.pause()"
        with python.start(waiting, servers.folder, session=True) as starter:
            assert starter.stdout is not None
            addresses = Addresses(**json.loads(starter.stdout.readline()))
            os.killpg(starter.pid, signal.SIGINT)
            starter.communicate(timeout=90)
        assert starter.returncode != 0
        assert servers.addresses() == addresses
        assert answer(addresses)

    def test_in_several_processes_at_once_starts_one_of_each(
        self, fresh_servers: EmbeddedServers, folder: Path, python: Python
    ) -> None:
        starters = [python.start(START, folder) for _ in range(4)]
        results = [starter.communicate(timeout=90) for starter in starters]
        assert [starter.returncode for starter in starters] == [0] * 4, results
        assert {printed for printed, _ in results} == {results[0][0]}
        assert answer(fresh_servers.start())
        assert running_on(folder, "postgres") == [fresh_servers.postgres.pid]
        assert running_on(folder, "valkey-server") == [fresh_servers.valkey.pid]

    def test_recovers_what_a_start_cut_short_left(
        self, fresh_servers: EmbeddedServers, folder: Path, python: Python
    ) -> None:
        with python.start(START, folder) as starter:
            # As soon as there is something to leave behind.
            while not (folder / "postgres" / "server.log").exists():
                assert starter.poll() is None
            starter.kill()
        assert answer(fresh_servers.start())
        assert running_on(folder, "postgres") == [fresh_servers.postgres.pid]

    def test_works_below_a_folder_that_other_accounts_may_not_pass(self, folder: Path) -> None:
        private = folder / "private"
        private.mkdir(mode=0o700)
        servers = EmbeddedServers(private / "state")
        try:
            assert answer(servers.start())
            data = servers.postgres.data_folder
            assert data.is_relative_to(private) == (os.geteuid() != 0)
            assert stat.S_IMODE(data.stat().st_mode) == 0o700
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
        finally:
            servers.remove_data()
        assert not data.exists()

    def test_works_for_an_account_that_is_not_root(
        self, folder: Path, unprivileged_python: Python
    ) -> None:
        theirs = folder / "theirs"
        theirs.mkdir()
        if unprivileged_python.account is not None:
            account = unprivileged_python.account
            os.chown(theirs, account.uid, account.gid)
        try:
            addresses = Addresses(**json.loads(unprivileged_python.run(START, theirs)))
            assert answer(addresses)
            assert Addresses(**json.loads(unprivileged_python.run(START, theirs))) == addresses
            assert (theirs / "postgres" / "data" / "PG_VERSION").exists()
        finally:
            unprivileged_python.run(
                "import sys; from pathlib import Path\n"
                "from adapters.embedded.servers import EmbeddedServers\n"
                "EmbeddedServers(Path(sys.argv[1])).stop()",
                theirs,
            )
        assert running_on(theirs, "postgres") == running_on(theirs, "valkey-server") == []


class TestAddresses:
    def test_are_none_before_the_first_start(self, fresh_servers: EmbeddedServers) -> None:
        assert fresh_servers.addresses() is None

    def test_are_none_when_one_of_the_two_is_down(self, servers: EmbeddedServers) -> None:
        servers.start()
        servers.valkey.stop()
        assert servers.addresses() is None


class TestStop:
    def test_leaves_no_process(self, servers: EmbeddedServers) -> None:
        servers.start()
        servers.stop()
        assert running_on(servers.folder, "postgres") == []
        assert running_on(servers.folder, "valkey-server") == []
        assert servers.addresses() is None

    def test_may_come_first(self, fresh_servers: EmbeddedServers) -> None:
        fresh_servers.stop()
        assert fresh_servers.addresses() is None

    def test_may_be_repeated(self, servers: EmbeddedServers) -> None:
        servers.start()
        servers.stop()
        servers.stop()

    def test_comes_at_the_end_of_a_block(self, servers: EmbeddedServers) -> None:
        with servers as addresses:
            assert answer(addresses)
        assert servers.addresses() is None
