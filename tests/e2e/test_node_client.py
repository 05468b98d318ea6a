"""The Node.js client of Celery, installed by npm, as its how-to guide uses it."""

import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest

from domain.jobs.model import Door, JobState
from tests.e2e.how_to import snippets
from tests.e2e.pipeline import Pipeline

PACKAGE = Path(__file__).with_name("node")
CACHE = Path(__file__).parents[2] / ".tallyman" / "node"


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """Install what the lock file names, once for each version of it."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    assert not missing, f"this test needs {' and '.join(missing)} on PATH: install Node.js 18 or up"
    lock = (PACKAGE / "package-lock.json").read_bytes()
    installed = CACHE / sha256(lock).hexdigest()[:16]
    if not installed.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        # Made aside, so that what a killed session left half done is never used.
        with tempfile.TemporaryDirectory(dir=CACHE) as aside:
            made = Path(aside) / "made"
            shutil.copytree(PACKAGE, made)
            npm = subprocess.run(
                [
                    "npm",
                    "ci",
                    f"--cache={CACHE / 'npm'}",
                    "--ignore-scripts",
                    "--no-audit",
                    "--no-fund",
                ],
                cwd=made,
                capture_output=True,
                text=True,
                check=False,
            )
            assert npm.returncode == 0, f"npm ci failed:\n{npm.stderr}"
            made.rename(installed)
    return installed / "node_modules"


class TestTheNodeClient:
    def test_enqueues_orders_and_awaits_what_became_of_them(
        self, pipeline: Pipeline, node_modules: Path, tmp_path: Path, broker_url: str
    ) -> None:
        pipeline.has_stock("LAMP", 10)
        [(code, prints)] = snippets("enqueue-from-node.md", "js")
        script = tmp_path / "enqueue.js"
        script.write_text(code)

        node = subprocess.run(
            ["node", str(script)],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "NODE_PATH": str(node_modules),
                "TALLYMAN_BROKER_URL": broker_url,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

        assert (node.stdout, node.stderr) == (prints, "")
        allocated = pipeline.until("node-N-1", JobState.SUCCEEDED)
        assert (allocated.door, allocated.attempts) == (Door.CELERY, 1)
        assert pipeline.until("node-N-2", JobState.REJECTED).error is not None
        assert pipeline.allocated("LAMP") == 2

    def test_is_locked_without_the_address_of_a_registry(self) -> None:
        assert '"resolved"' not in (PACKAGE / "package-lock.json").read_text()
