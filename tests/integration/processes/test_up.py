"""`tallyman up`: what dies comes back, and what is told to stop leaves nothing behind."""

import os
import signal
import stat
from collections.abc import Iterator

import psutil
import pytest

from adapters.embedded.processes import is_gone, wait_until
from adapters.embedded.servers import EmbeddedServers
from tests.integration.processes.conftest import (
    DEADLINE,
    PROGRAMS,
    Installation,
    Running,
    all_gone,
)


@pytest.fixture(scope="class")
def up(installation: Installation) -> Iterator[Running]:
    """Share one running `up`: what the tests kill comes back."""
    running = installation.start_up()
    yield running
    running.process.send_signal(signal.SIGINT)
    running.ends()


class TestUp:
    def test_runs_everything(self, up: Running, installation: Installation) -> None:
        assert set(installation.pids()) == {"supervisord", *PROGRAMS}

    def test_says_where_everything_is_and_keeps_passwords_back(self, up: Running) -> None:
        lines = up.printed.splitlines()
        assert len(lines) == len(set(lines))
        assert "http://127.0.0.1:" in up.printed
        assert "tallyman:***@127.0.0.1" in up.printed
        assert "redis://:***@127.0.0.1" in up.printed
        assert str(up.out.parent / "data" / "logs") in up.printed
        assert up.complaints == ""

    def test_is_well(self, up: Running, installation: Installation) -> None:
        asked = installation.run_until_well()
        assert asked.stdout.count(" well: ") == 5

    def test_shows_secrets_to_nobody(self, up: Running, installation: Installation) -> None:
        servers = EmbeddedServers(installation.data_folder)
        passwords = {url.split(":")[2].split("@")[0] for url in (servers.postgres.url(),)}
        passwords.add(servers.valkey.url().split(":")[2].split("@")[0])
        for process in installation.remains():
            assert not any(password in " ".join(process.cmdline()) for password in passwords)
        settings = installation.data_folder / "supervisord.ini"
        assert stat.S_IMODE(settings.stat().st_mode) == 0o600
        assert not any(password in settings.read_text("utf-8") for password in passwords)

    def test_is_refused_a_second_time(self, up: Running, installation: Installation) -> None:
        second = installation.run("up")
        assert second.returncode == 2
        assert f"process {up.process.pid} runs the stack" in second.stderr

    @pytest.mark.parametrize("name", PROGRAMS)
    def test_restarts_what_is_killed(
        self, name: str, up: Running, installation: Installation
    ) -> None:
        killed = psutil.Process(installation.pids()[name])
        killed.kill()
        assert wait_until(
            lambda: installation.pids().get(name, killed.pid) != killed.pid, seconds=DEADLINE
        )
        if name not in ("metrics", "flower"):
            installation.run_until_well(name)

    def test_restarts_all_when_their_supervisor_is_killed(
        self, up: Running, installation: Installation
    ) -> None:
        before = installation.pids()
        os.kill(before["supervisord"], signal.SIGKILL)
        assert wait_until(
            lambda: (
                len(installation.pids()) == len(before)
                and not set(installation.pids().values()) & set(before.values())
            ),
            seconds=DEADLINE,
        )

    def test_restarts_a_server_that_is_killed(
        self, up: Running, installation: Installation
    ) -> None:
        valkey = EmbeddedServers(installation.data_folder).valkey
        valkey.kill()
        assert wait_until(valkey.running, seconds=DEADLINE)


class TestEnd:
    @pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
    def test_leaves_nothing_running(self, told: signal.Signals, installation: Installation) -> None:
        up = installation.start_up("--no-flower")
        ran = installation.remains()
        up.process.send_signal(told)
        assert up.ends() == 0
        assert all(map(is_gone, ran))
        assert up.printed.splitlines()[-1] == "Stopped."

    def test_comes_at_once_on_a_second_signal(self, installation: Installation) -> None:
        up = installation.start_up("--no-flower")
        ran = installation.remains()
        # Else all may have come to its end before the second signal.
        os.kill(installation.pids()["supervisord"], signal.SIGSTOP)
        up.process.send_signal(signal.SIGINT)
        up.wait_for("Ctrl-C again")
        up.process.send_signal(signal.SIGINT)
        assert up.ends() == 130
        assert all_gone(ran)

    def test_of_a_killed_one_leaves_what_the_next_clears(self, installation: Installation) -> None:
        first = installation.start_up("--no-flower")
        left = [psutil.Process(pid) for pid in installation.pids().values()]
        first.process.kill()
        first.process.wait()
        second = installation.start_up("--no-flower")
        assert all(map(is_gone, left))
        assert set(installation.pids()) == {"supervisord", "worker", "relay", "beat", "metrics"}
        # From another terminal, while it runs.
        ran = installation.remains()
        assert installation.run("down").returncode == 0
        assert second.ends() == 0
        assert all(map(is_gone, ran))

    def test_is_quiet_where_that_is_asked_for(self, installation: Installation) -> None:
        up = installation.start("up", "--no-flower", "--quiet")
        assert wait_until(lambda: "worker" in installation.pids(), seconds=DEADLINE)
        up.process.kill()
        up.process.wait()
        left = installation.remains()
        assert installation.run("down").returncode == 0
        assert all(map(is_gone, left))
        assert up.printed + up.complaints == ""
