"""The guide to the data model: its change, its command, and what it says that comes of it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.e2e.test_add_a_job_kind import BLOCK, PACKAGES, change

GUIDE = ROOT / "docs" / "how-to" / "evolve-the-data-model.md"


class TestAddingAColumn:
    def test_gives_the_revision_that_the_guide_shows(
        self, tmp_path: Path, database_url: str
    ) -> None:
        for package in PACKAGES:
            # What is compiled there may be written at this moment, under a name that does not stay.
            without = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, tmp_path / package, ignore=without)
        difference, command, operation = [
            block["text"] for block in BLOCK.finditer(GUIDE.read_text(encoding="utf-8"))
        ][:3]
        change(tmp_path / "adapters" / "postgres" / "tables.py", difference)
        [message] = re.findall(r'^make migration MSG="(.*)"$', command, re.MULTILINE)

        for arguments in (["revision", "-m", message], ["check"]):
            done = subprocess.run(
                [sys.executable, "-m", "worker.command.main", "migrate", *arguments],
                cwd=tmp_path,
                env={"PATH": "/usr/bin:/bin", "TALLYMAN_DATABASE_URL": database_url},
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr

        [revision] = (tmp_path / "migrations" / "versions").glob(
            f"*_{message.replace(' ', '_')}.py"
        )
        [written] = re.findall(r"^    (op\..*)$", revision.read_text(), re.MULTILINE)
        assert written.replace("'", '"') == operation.strip()
