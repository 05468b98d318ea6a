"""`tallyman top`, once and in a terminal."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine

from tests.conftest import wait_until
from tests.ended_jobs import ORDER, do, ended, failure, imported
from tests.integration.command.conftest import Tallyman

DEADLINE = 60.0
HOME = "\x1b[H"
"""With which each frame begins."""


@pytest.fixture
def busy(engine: Engine) -> None:
    """Give a database in which something went on, and names that nobody should trust."""
    with engine.connect() as connection:
        now = connection.exec_driver_sql("SELECT now()").scalar_one()
    ended(engine, at=now, jobs=5)
    ended(engine, at=now, state="dead", error=failure("Boom", "\x1b[2J fire"), job_id="d")
    imported(engine, "r", at=now, state="running", file_name="\x1b]0;x\x07.csv", rows=10, ends={})


@pytest.mark.usefixtures("busy")
class TestOneFrame:
    def test_is_printed_where_there_is_no_terminal(self, tallyman: Tallyman) -> None:
        ran = tallyman("top")
        assert (ran.code, ran.err) == (0, "")
        for words in ("allocation", ORDER, "Boom: �[2J fire", "�]0;x�.csv", "NO BROKER since"):
            assert words in ran.out
        assert all(line.isprintable() for line in ran.out.splitlines())
        assert max(map(len, ran.out.splitlines())) <= 120

    def test_is_as_wide_as_columns_says(
        self, tallyman: Tallyman, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        assert max(map(len, tallyman("top", "--once").out.splitlines())) <= 80

    def test_is_json_for_programs(self, tallyman: Tallyman) -> None:
        shown = tallyman("top", "--json").json
        assert shown["finished"]["succeeded"] == 5
        assert shown["dead"] == 1
        assert [each["queue"] for each in shown["queues"]][:2] == ["allocation", "users"]
        assert shown["imports"][0]["rows"] == 10
        assert shown["failing"][0]["error"] == "Boom"
        assert shown["workers"] is None
        assert "TALLYMAN_BROKER_URL" in shown["broker_away"]["reason"]

    def test_knows_the_workers_of_a_broker(
        self, tallyman: Tallyman, broker_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TALLYMAN_BROKER_URL", broker_url)
        # The broker has a second to answer, as workers have; until it did, they are not known.
        wait_until(lambda: tallyman("top", "--json").json["workers"] == [])
        wait_until(lambda: "NO WORKER" in tallyman("top").out)

    def test_takes_no_interval_that_is_none(self, tallyman: Tallyman) -> None:
        assert tallyman("top", "--interval", "0").code == 2


class TestWithoutDatabase:
    def test_is_said_in_one_line(self, lonely_tallyman: Tallyman) -> None:
        ran = lonely_tallyman("top", "--once")
        assert (ran.code, ran.out) == (4, "")
        assert "tallyman up" in ran.err


@dataclass(kw_only=True)
class Terminal:
    """A terminal of its own, in which a command runs."""

    process: subprocess.Popen[bytes]
    ours: int
    theirs: int
    before: list[object]
    written: str = ""
    _raw: bytearray = field(default_factory=bytearray)

    def read_until(self, words: str, *, after: int = 0) -> None:
        deadline = time.monotonic() + DEADLINE
        while words not in self.written[after:]:
            assert time.monotonic() < deadline, f"{words!r} is not in {self.written[after:]!r}"
            self._read()

    def read_frame(self, words: str, *, but: str) -> None:
        """Read until a whole frame that is yet to be drawn holds these words, and not those."""
        deadline = time.monotonic() + DEADLINE
        before = len(self.written)
        while not any(
            words in frame and but not in frame for frame in self.written[before:].split(HOME)[1:-1]
        ):
            assert time.monotonic() < deadline, f"{but!r} is still in {self.written[before:]!r}"
            self._read()

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def has_ended(self) -> int:
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                # Its threads say where they are.
                self.process.send_signal(signal.SIGABRT)
                self.process.wait()
                self._read()
                pytest.fail(f"it has not ended: {self.written[-20_000:]}")
            self._read()
        self._read()
        return self.process.returncode

    def _read(self) -> None:
        """Read what it wrote, as a terminal does: who writes to one that is full waits."""
        while select.select([self.ours], [], [], 0.1)[0]:
            self._raw += os.read(self.ours, 65_536)
            self.written = self._raw.decode(errors="replace")

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.theirs) == self.before


@pytest.fixture
def terminal(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Terminal]:
    """Give `tallyman top` in a terminal of 80 columns and 24 lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(theirs)
    inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "worker.command.main", "top", "--interval", "0.2"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env={
            **inherited,
            "TERM": "xterm-256color",
            "PYTHONFAULTHANDLER": "1",
            "TALLYMAN_DATABASE_URL": database_url,
            "TALLYMAN_BROKER_URL": broker_url,
        },
        start_new_session=True,
    )
    terminal = Terminal(process=process, ours=ours, theirs=theirs, before=before)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
        os.close(theirs)


ENTERS, LEAVES, SHOWS_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class TestLiveView:
    @pytest.mark.parametrize("told", ["q", signal.SIGINT, signal.SIGTERM])
    def test_ends_with_0_and_leaves_the_terminal_as_it_was(
        self, terminal: Terminal, told: str | signal.Signals
    ) -> None:
        terminal.read_until("maintenance")
        assert ENTERS in terminal.written
        assert not terminal.is_as_before
        if isinstance(told, str):
            os.write(terminal.ours, told.encode())
        else:
            terminal.process.send_signal(told)
        assert terminal.has_ended() == 0
        assert LEAVES in terminal.written
        assert terminal.written.rindex(SHOWS_CURSOR) > terminal.written.rindex("maintenance")
        assert terminal.is_as_before

    def test_grows_with_the_terminal(self, terminal: Terminal) -> None:
        terminal.read_until("maintenance")
        before = len(terminal.written)
        terminal.resize(140, 40)
        terminal.read_until("·" * 80, after=before)

    def test_goes_on_by_itself_when_postgresql_was_away(
        self, terminal: Terminal, engine: Engine, database_url: str
    ) -> None:
        terminal.read_until("maintenance")
        name = database_url.rpartition("/")[2]
        administration = f"{database_url.rpartition('/')[0]}/postgres".replace("+psycopg", "")
        engine.dispose()
        with psycopg.connect(administration, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            before = len(terminal.written)
            terminal.read_until("NO DATABASE", after=before)
            connection.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
        do(engine, "INSERT INTO queue (name, paused_at, pause_reason) VALUES ('users', now(), 'x')")
        before = len(terminal.written)
        terminal.read_until("paused: x", after=before)
        terminal.read_frame("maintenance", but="NO DATABASE")
