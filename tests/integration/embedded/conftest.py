"""Folders and processes for tests that start real servers."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from adapters.embedded.postgres import PostgresServer
from adapters.embedded.servers import EmbeddedServers
from adapters.embedded.unprivileged import Account, account_for_postgres, can_reach
from adapters.embedded.valkey import ValkeyServer

REPOSITORY = Path(__file__).parents[3]
START = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from adapters.embedded.servers import EmbeddedServers
print(json.dumps(asdict(EmbeddedServers(Path(sys.argv[1])).start())), flush=True)
"""
UNNEEDED = shutil.ignore_patterns("test", "tests", "idlelib", "config-*", "site-packages", "*.pyc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """An interpreter for other processes, as ourselves or as another account."""

    executable: str = sys.executable
    packages: Path = Path(psycopg.__file__).parents[1]
    sources: Path = REPOSITORY
    variables: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None

    def start(
        self,
        code: str,
        *arguments: object,
        first_on_path: Path | None = None,
        session: bool = False,
    ) -> subprocess.Popen[str]:
        path = [first_on_path, self.sources, self.packages]
        return subprocess.Popen(
            [self.executable, "-c", code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={
                **os.environ,
                **self.variables,
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": os.pathsep.join(str(entry) for entry in path if entry),
            },
            start_new_session=session,
            user=None if self.account is None else self.account.uid,
            group=None if self.account is None else self.account.gid,
            extra_groups=None if self.account is None else [],
        )

    def run(self, code: str, *arguments: object, first_on_path: Path | None = None) -> str:
        with self.start(code, *arguments, first_on_path=first_on_path) as process:
            printed, complaints = process.communicate(timeout=90)
        assert process.returncode == 0, complaints
        return printed


@contextmanager
def passable_folder() -> Iterator[Path]:
    """Make a folder every account may pass, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="tallyman-test-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def folder() -> Iterator[Path]:
    with passable_folder() as made:
        yield made


@pytest.fixture(scope="module")
def kept_servers() -> Iterator[EmbeddedServers]:
    """Share one cluster, whose files are most of the cost; each test starts it anew."""
    with passable_folder() as made:
        embedded = EmbeddedServers(made)
        yield embedded
        embedded.remove_data()


@pytest.fixture
def servers(kept_servers: EmbeddedServers) -> Iterator[EmbeddedServers]:
    yield kept_servers
    kept_servers.stop()


@pytest.fixture
def fresh_servers(folder: Path) -> Iterator[EmbeddedServers]:
    embedded = EmbeddedServers(folder)
    yield embedded
    embedded.remove_data()


@pytest.fixture
def postgres(servers: EmbeddedServers) -> PostgresServer:
    return servers.postgres


@pytest.fixture
def valkey(folder: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(folder)
    yield server
    server.remove_data()


@pytest.fixture
def python() -> Python:
    return Python()


@pytest.fixture
def unprivileged_python(folder: Path) -> Python:
    """Give an interpreter of an account that is not root: ours, or else that of ``nobody``."""
    nobody = account_for_postgres()
    if nobody is None:
        return Python()
    base = Path(sys.base_prefix)
    ours = Python()
    executable = _within_reach(base, folder / "python", nobody, copy=_copy_interpreter)
    return Python(
        executable=str(executable / "bin" / f"python{sysconfig.get_python_version()}"),
        packages=_within_reach(ours.packages, folder / "packages", nobody, copy=_copy_tree),
        sources=_within_reach(ours.sources, folder / "sources", nobody, copy=_copy_sources),
        variables={"LD_LIBRARY_PATH": str(executable / "lib")},
        account=nobody,
    )


def _within_reach(
    path: Path, elsewhere: Path, account: Account, *, copy: Callable[[Path, Path], None]
) -> Path:
    if can_reach(path, account=account):
        return path
    copy(path, elsewhere)
    return elsewhere


def _copy_interpreter(prefix: Path, target: Path) -> None:
    version = f"python{sysconfig.get_python_version()}"
    shutil.copytree(prefix / "lib" / version, target / "lib" / version, ignore=UNNEEDED)
    for library in (prefix / "lib").glob("libpython*"):
        shutil.copy(library, target / "lib" / library.name)
    (target / "bin").mkdir()
    shutil.copy(prefix / "bin" / version, target / "bin" / version)


def _copy_tree(packages: Path, target: Path) -> None:
    shutil.copytree(packages, target)


def _copy_sources(repository: Path, target: Path) -> None:
    shutil.copytree(repository / "adapters", target / "adapters")
