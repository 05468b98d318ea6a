"""The command line before any command runs."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from worker.command.main import COMMANDS

HELP = """
import sys
from worker.command.main import main
sys.argv = ["tallyman", "--help"]
try:
    main()
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


def run(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if "TALLYMAN" not in name}
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=ours | variables,
        timeout=60,
    )


def tallyman(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run("-P", "-m", "worker.command.main", *arguments, folder=folder, **variables)


class TestHelp:
    def test_names_every_command(self, tmp_path: Path) -> None:
        shown = tallyman("--help", folder=tmp_path)
        assert shown.returncode == 0
        for name, command in COMMANDS.items():
            assert f"  {name} " in shown.stdout
            assert command.help in shown.stdout

    def test_waits_for_no_library_but_typer(self, tmp_path: Path) -> None:
        imported = set(run("-c", HELP, folder=tmp_path).stderr.split())
        assert "typer" in imported
        assert not imported & {"celery", "sqlalchemy", "pydantic", "structlog", "rich", "flower"}

    @pytest.mark.parametrize("name", COMMANDS)
    def test_of_a_command_finds_it(self, name: str, tmp_path: Path) -> None:
        shown = tallyman(name, "--help", folder=tmp_path)
        assert shown.returncode == 0
        assert f"tallyman {name}" in shown.stdout


class TestCommandLine:
    def test_tells_the_version(self, tmp_path: Path) -> None:
        shown = tallyman("--version", folder=tmp_path)
        assert (shown.returncode, shown.stdout) == (0, f"tallyman {version('tallyman')}\n")

    def test_does_not_take_a_command_it_does_not_know(self, tmp_path: Path) -> None:
        refused = tallyman("tallly", folder=tmp_path)
        assert refused.returncode == 2
        assert "No such command" in refused.stderr

    @pytest.mark.parametrize(
        "command", ["worker", "relay", "beat", "metrics", "flower", "up", "health"]
    )
    def test_answers_a_wrong_setting_with_one_line(self, command: str, tmp_path: Path) -> None:
        refused = tallyman(command, folder=tmp_path, TALLYMAN_CONCURRENCY="many")
        assert refused.returncode == 2
        [line] = refused.stderr.splitlines()
        assert line.startswith("error: TALLYMAN_CONCURRENCY: ")

    @pytest.mark.parametrize("command", ["worker", "relay", "beat", "metrics", "flower", "health"])
    def test_says_what_to_start_where_nothing_runs(self, command: str, tmp_path: Path) -> None:
        refused = tallyman(command, folder=tmp_path)
        assert refused.returncode == 4
        [line] = refused.stderr.splitlines()
        assert "tallyman up" in line

    def test_refuses_a_queue_that_nobody_fills(self, tmp_path: Path) -> None:
        refused = tallyman("worker", "--queues", "allocation,typo", folder=tmp_path)
        assert refused.returncode == 2
        assert "no queue is called typo" in refused.stderr

    def test_refuses_to_go_back(self, tmp_path: Path) -> None:
        refused = tallyman("migrate", "downgrade", folder=tmp_path)
        assert refused.returncode == 2
        assert "forward only" in refused.stderr

    def test_hides_a_traceback_until_it_is_asked_for(self, tmp_path: Path) -> None:
        # A folder where a file is: nobody has foreseen it.
        (tmp_path / "file").touch()
        variables = {"TALLYMAN_DATA_FOLDER": str(tmp_path / "file" / "folder")}
        short = tallyman("up", folder=tmp_path, **variables)
        assert (short.returncode, len(short.stderr.splitlines())) == (1, 1)
        long = tallyman("up", folder=tmp_path, TALLYMAN_LOG_LEVEL="DEBUG", **variables)
        assert "Traceback" in long.stderr

    def test_is_quiet_when_nobody_reads_on(self, tmp_path: Path) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as nobody:
            shown = subprocess.run(
                [sys.executable, "-P", "-m", "worker.command.main", "--help"],
                check=False,
                stdout=nobody,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                timeout=60,
            )
        assert shown.returncode == 1
        assert shown.stderr == b""

    def test_finds_nothing_to_stop(self, tmp_path: Path) -> None:
        assert tallyman("down", folder=tmp_path).returncode == 0
