import os
from pathlib import Path

import pytest

from adapters.embedded.errors import UntrustedFolder
from adapters.embedded.postgres import PostgresServer
from adapters.embedded.unprivileged import Account, can_reach, claim, shared_path

STRANGER = Account(name="stranger", uid=64001, gid=64001)


class TestClaim:
    def test_makes_a_folder_that_all_may_pass(self, folder: Path) -> None:
        before = os.umask(0o077)
        try:
            claim(folder / "made")
        finally:
            os.umask(before)
        assert can_reach(folder / "made", account=STRANGER)

    def test_accepts_its_own_folder_again(self, folder: Path) -> None:
        claim(folder / "made")
        claim(folder / "made")

    def test_refuses_a_link(self, folder: Path) -> None:
        (folder / "planted").symlink_to(folder)
        with pytest.raises(UntrustedFolder, match="look at it, then remove it"):
            claim(folder / "planted")

    def test_refuses_a_folder_others_may_write_to(self, folder: Path) -> None:
        folder.chmod(0o777)
        with pytest.raises(UntrustedFolder, match="got drwxrwxrwx"):
            claim(folder)

    def test_refuses_a_folder_of_another_account(self, folder: Path) -> None:
        theirs = Path("/")
        if os.geteuid() == 0:
            theirs = folder
            os.chown(theirs, STRANGER.uid, STRANGER.gid)
        with pytest.raises(UntrustedFolder, match=f"of uid {theirs.stat().st_uid}"):
            claim(theirs)


class TestCanReach:
    def test_needs_every_folder_on_the_way(self, folder: Path) -> None:
        inner = folder / "outer" / "inner"
        inner.mkdir(parents=True)
        assert can_reach(inner, account=STRANGER)
        inner.parent.chmod(0o700)
        assert not can_reach(inner, account=STRANGER)


class TestSharedPath:
    def test_is_not_used_when_somebody_waits_there(self, folder: Path) -> None:
        private = folder / "private"
        private.mkdir(mode=0o700)
        server = PostgresServer(private)
        planted = shared_path(server.digest)
        planted.symlink_to(folder)
        try:
            if os.geteuid() == 0:
                with pytest.raises(UntrustedFolder, match=str(planted)):
                    server.start()
            else:
                server.start()
            assert server.running() == (os.geteuid() != 0)
            assert not (folder / "data").exists()
        finally:
            server.stop()
            planted.unlink()
