"""What processes write to their logs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

JOB = """
import logging
import sys
import structlog
from celery import Celery
from celery.app.log import Logging
from worker import logs
from worker.settings import Settings

settings = Settings(log_format=sys.argv[1])
logs.connect(settings)
app = Celery("shop", set_as_current=False)
app.log.setup("INFO")


@app.task(name="users.register")
def register(*job_ids, **payload):
    structlog.get_logger().info("user_registered", user_id="u1")
    logging.getLogger("celery.app.trace").info("Task %s succeeded", "users.register")
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("attempt_broken")


register.apply(kwargs={"email": "ada@example.com"}, task_id="job-1")
register.apply(args=[["job-2", "job-3"]], task_id="message-1")
logging.getLogger("celery").info("idle")
"""


def logged(form: str, folder: Path) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-P", "-c", JOB, form],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if "TALLYMAN" not in name},
        timeout=60,
    )
    assert ran.stdout == ""
    return ran.stderr.splitlines()


class TestLogs:
    def test_of_machines_are_json_with_the_ids_of_the_job(self, tmp_path: Path) -> None:
        lines = [json.loads(line) for line in logged("json", tmp_path)]
        ours = next(line for line in lines if line["event"] == "user_registered")
        assert (ours["job_id"], ours["kind"]) == ("job-1", "users.register")
        theirs = next(line for line in lines if line["event"] == "Task users.register succeeded")
        assert (theirs["job_id"], theirs["logger"]) == ("job-1", "celery.app.trace")

    def test_of_a_batch_say_how_many_jobs_it_has(self, tmp_path: Path) -> None:
        lines = [json.loads(line) for line in logged("json", tmp_path)]
        batch = [line for line in lines if line["event"] == "user_registered"][1]
        assert batch["jobs"] == 2
        assert "job_id" not in batch

    def test_after_a_job_are_no_longer_about_it(self, tmp_path: Path) -> None:
        lines = [json.loads(line) for line in logged("json", tmp_path)]
        assert "kind" not in next(line for line in lines if line["event"] == "idle")

    @pytest.mark.parametrize("form", ["json", "console"])
    def test_show_where_it_broke_but_nothing_of_a_person(self, form: str, tmp_path: Path) -> None:
        written = "\n".join(logged(form, tmp_path))
        assert "ValueError: no" in written
        assert "ada@example.com" not in written
