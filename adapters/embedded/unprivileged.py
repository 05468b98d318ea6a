"""Where the account that root's PostgreSQL must run as can read and write."""

import os
import pwd
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adapters.embedded.errors import UntrustedFolder

_SHARED = Path("/var/tmp")  # noqa: S108  what lies there is trusted only once its owner is checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A system account other than ours."""

    name: str
    uid: int
    gid: int


def account_for_postgres() -> Account | None:
    """Find whom PostgreSQL must run as: it refuses root, so ``nobody`` then; else ourselves."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(name=nobody.pw_name, uid=nobody.pw_uid, gid=nobody.pw_gid)


def can_reach(path: Path, *, account: Account) -> bool:
    """Tell whether the account may pass every folder down to ``path``, and enter or run it."""
    resolved = path.resolve()
    return all(_may_execute(step.stat(), account) for step in (resolved, *resolved.parents))


def shared_path(name: str) -> Path:
    return _SHARED.resolve() / f"tallyman-{os.geteuid()}-{name}"


def claim(folder: Path) -> None:
    """Make a folder that all may pass, or make sure that the one found there is ours alone.

    Raises:
        UntrustedFolder: somebody else put something there, or may write to it.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o755)
    found = folder.lstat()
    writable_by_others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or writable_by_others:
        raise UntrustedFolder(
            f"{folder} must be a folder that only uid {os.geteuid()} can write to, got "
            f"{stat.filemode(found.st_mode)} of uid {found.st_uid}: look at it, then remove it"
        )
    folder.chmod(0o755)  # whatever the umask took away


def _may_execute(found: os.stat_result, account: Account) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == account.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
