"""The guide to a new job kind, followed to the letter in a copy of the project."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from domain.jobs.model import JobState
from tests.conftest import ROOT
from tests.e2e.pipeline import Pipeline

GUIDE = ROOT / "docs" / "how-to" / "add-a-job-kind.md"
PACKAGES = ("adapters", "domain", "migrations", "tasks", "worker")
BLOCK = re.compile(
    r"^(?:`(?P<path>[\w/.]+)`\n\n)?```(?P<form>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)

UNDECIDED = """
from adapters.postgres.access import ACCESS
from adapters.postgres.tables import metadata
print({*metadata.tables} - ACCESS.keys())
"""
"""Tables of which it was not decided who may do what."""


def follow(guide: str, project: Path) -> None:
    """Make the changes that the blocks of the guide's steps say."""
    path = None
    for block in BLOCK.finditer(guide.partition("## It runs")[0]):
        path = block["path"] or path
        match block["form"]:
            case "python":
                assert path is not None
                file = project / path
                assert not file.exists(), f"{path} is there already"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block["text"])
            case "diff":
                assert path is not None
                change(project / path, block["text"])
            case form:
                assert form == "console"


def change(file: Path, difference: str) -> None:
    lines = difference.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    after = "".join(line[1:] for line in lines if not line.startswith("-"))
    text = file.read_text()
    assert text.count(before) == 1, f"{file.name} has {text.count(before)} times:\n{before}"
    file.write_text(text.replace(before, after))


def run(
    *command: str, project: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run(
        command,
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the project in which the guide's steps were taken."""
    project = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", project)
    follow(GUIDE.read_text(encoding="utf-8"), project)
    return project


@pytest.fixture(scope="module")
def environment(environment: Mapping[str, str], project: Path) -> Mapping[str, str]:
    """Have all processes run the copy, on a database that it has migrated."""
    ours = {**environment, "PYTHONPATH": str(project)}
    tallyman = (sys.executable, "-m", "worker.command.main")
    # What `make migration` runs.
    run(*tallyman, "migrate", "revision", "-m", "keep notes", project=project, environment=ours)
    run(*tallyman, "migrate", "check", project=project, environment=ours)
    run(*tallyman, "migrate", "upgrade", project=project, environment=ours)
    return ours


class TestANewJobKind:
    def test_is_as_tidy_as_the_rest_and_its_tests_pass(
        self, project: Path, environment: Mapping[str, str]
    ) -> None:
        written = ["domain/notes", "adapters/postgres/notes.py", "domain/kinds.py"]
        ruff = (sys.executable, "-m", "ruff")
        run(*ruff, "check", "--no-cache", *written, project=project, environment=environment)
        run(
            *(*ruff, "format", "--no-cache", "--check", *written),
            project=project,
            environment=environment,
        )
        [revision] = (project / "migrations" / "versions").glob("*keep_notes.py")
        assert "create_table('note'" in revision.read_text().replace("\n", "").replace(" ", "")
        tests = run(
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/notes"),
            project=project,
            environment=environment,
        )
        assert "2 passed" in tests.stdout
        decided = run(sys.executable, "-c", UNDECIDED, project=project, environment=environment)
        assert decided.stdout == "set()\n"

    def test_runs_by_both_doors(
        self, pipeline: Pipeline, project: Path, environment: Mapping[str, str]
    ) -> None:
        blocks = [
            (block["form"], block["text"])
            for block in BLOCK.finditer(
                GUIDE.read_text(encoding="utf-8").partition("## It runs")[2]
            )
        ]
        [_, (_, commands), (_, client), (_, answer)] = blocks
        printed = [
            run(
                *(sys.executable, "-m", "worker.command.main", *shlex.split(line)[1:]),
                project=project,
                environment=environment,
            ).stdout
            for line in commands.splitlines()
        ]
        assert json.loads(printed[0])["properties"].keys() == {"note_id", "sku", "text"}
        pipeline.until("note-1", JobState.SUCCEEDED)
        sent = run(sys.executable, "-c", client, project=project, environment=environment)
        assert sent.stdout == answer
        notes = pipeline.database.execute("SELECT id, text FROM note ORDER BY id").fetchall()
        assert notes == [("n-1", "warm white"), ("n-2", "cold white")]
        events = pipeline.database.execute("SELECT job_id FROM outbox WHERE name = 'NoteWritten'")
        assert {row[0] for row in events} == {"note-1", "note-2"}
