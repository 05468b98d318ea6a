"""What processes write to their logs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    logging.getLogger("celery.worker").info("Task %s succeeded", "users.register")
    logging.getLogger("celery.app.trace").info("said once already")
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("attempt_broken")


register.apply(kwargs={"email": "ada@example.com"}, task_id="job-1")
register.apply(args=[["job-2", "job-3"]], task_id="message-1")
logging.getLogger("celery").info("idle")
"""


def said(code: str, *arguments: str, folder: Path) -> str:
    """Return what a process logs that runs this code; it prints nothing."""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if "TALLYMAN" not in name},
        timeout=60,
    )
    assert ran.stdout == ""
    return ran.stderr


class TestLogs:
    def test_of_machines_are_json_with_the_ids_of_the_job(self, tmp_path: Path) -> None:
        lines = [json.loads(line) for line in said(JOB, "json", folder=tmp_path).splitlines()]
        ours = next(line for line in lines if line["event"] == "user_registered")
        assert (ours["job_id"], ours["kind"]) == ("job-1", "users.register")
        theirs = next(line for line in lines if line["event"] == "Task users.register succeeded")
        assert (theirs["job_id"], theirs["logger"]) == ("job-1", "celery.worker")
        assert not [line for line in lines if line["event"] == "said once already"]

    def test_of_a_batch_say_how_many_jobs_it_has(self, tmp_path: Path) -> None:
        lines = [json.loads(line) for line in said(JOB, "json", folder=tmp_path).splitlines()]
        batch = [line for line in lines if line["event"] == "user_registered"][1]
        assert batch["jobs"] == 2
        assert "job_id" not in batch

    def test_after_a_job_are_no_longer_about_it(self, tmp_path: Path) -> None:
        lines = [json.loads(line) for line in said(JOB, "json", folder=tmp_path).splitlines()]
        assert "kind" not in next(line for line in lines if line["event"] == "idle")

    @pytest.mark.parametrize("form", ["json", "console"])
    def test_show_where_it_broke_but_nothing_of_a_person(self, form: str, tmp_path: Path) -> None:
        written = said(JOB, form, folder=tmp_path)
        assert "ValueError: no" in written
        assert "ada@example.com" not in written


ATTEMPTS = """
import sys
from worker import attempt_log, logs
from worker.settings import Settings
from domain.jobs.executor import Report
from domain.jobs.model import Door, Failure, Job, JobState

logs.set_up(Settings(log_format="json", log_level=sys.argv[1]), process="worker")


def report(name, state, **more):
    failure = Failure(type="OutOfStock", module="m", message="ada@example.com")
    return Report(
        job=Job(
            id=name, kind="k", door=Door.LEDGER, payload={"email": "ada@example.com"},
            payload_hash=b"", state=state, attempts=1, max_attempts=5, dispatches=1,
            error=failure, correlation_id="why",
        ),
        **more,
    )


S = JobState
error = ValueError("ada@example.com")
many = [report(f"fine-{n}", S.SUCCEEDED) for n in range(198)]
one_by_one = [
    report("fine", S.SUCCEEDED),
    report("refused", S.REJECTED),
    report("failed", S.RETRY, exception=error),
    report("dead", S.DEAD, exception=error),
    report("lost", S.DEAD),
    report("again", S.SUCCEEDED, is_answer=True),
    report("refused-again", S.REJECTED, is_answer=True),
]
for each in one_by_one:
    attempt_log.tell([each], seconds=0.0123)
attempt_log.tell([*many, *one_by_one[1:3]], seconds=0.5)
"""


def attempts(level: str, folder: Path) -> list[dict[str, Any]]:
    told = said(ATTEMPTS, level, folder=folder)
    assert "ada@example.com" not in told
    return [json.loads(line) for line in told.splitlines()]


class TestAnAttempt:
    def test_is_one_line_that_says_how_it_ended(self, tmp_path: Path) -> None:
        told = attempts("INFO", tmp_path)[:7]
        assert [(line["level"], line["event"], line.get("error")) for line in told] == [
            ("info", "attempt_succeeded", None),
            ("info", "attempt_refused", "OutOfStock"),
            ("warning", "attempt_failed", "ValueError"),
            ("error", "attempt_failed", "ValueError"),
            ("error", "attempt_failed", "OutOfStock"),
            ("info", "job_answered", None),
            ("info", "job_answered", None),
        ]
        always = {"timestamp", "level", "event", "process", "pid", "job_id", "kind"}
        for line in told:
            assert line.keys() >= always | {"correlation_id", "attempt", "duration_ms"}
        assert told[0]["duration_ms"] == 12.3

    def test_of_a_message_of_many_is_counted_unless_it_needs_a_look(self, tmp_path: Path) -> None:
        told = attempts("INFO", tmp_path)[7:]
        assert [line["event"] for line in told] == [
            "attempt_refused",
            "attempt_failed",
            "message_done",
        ]
        counts = {name: told[-1][name] for name in ("jobs", "succeeded", "rejected", "retry")}
        assert counts == {"jobs": 200, "succeeded": 198, "rejected": 1, "retry": 1}

    def test_of_a_message_of_many_is_a_line_each_where_all_is_told(self, tmp_path: Path) -> None:
        assert len(attempts("DEBUG", tmp_path)[7:]) == 201


TOGETHER = """
from unittest.mock import patch

import structlog
from domain.jobs.executor import Executor
from worker import logs
from worker.settings import Settings

logs.set_up(Settings(log_format="json"))
executor = logs.LoggedExecutor(
    kinds={}, begin_work=None, decode=None, persistently=None, worker="w"
)
with patch.object(Executor, "run_submitted_together", lambda *_: []):
    executor.run_submitted_together("users.erase", [None, None])
structlog.get_logger().info("broker_away")
"""


class TestMessagesThatRunTogether:
    def test_are_one_line_that_says_of_which_kind(self, tmp_path: Path) -> None:
        told = said(TOGETHER, folder=tmp_path)
        done, after = map(json.loads, told.splitlines())
        assert (done["event"], done["kind"]) == ("message_done", "users.erase")
        assert "kind" not in after


MASKED = """
import logging
import sys
import structlog
from worker import logs
from worker.settings import Settings

logs.set_up(Settings(log_format=sys.argv[1]))
url = "redis://tallyman:s3c:r3t@db.example.org:6379/0"
structlog.get_logger().warning("broker_away", error=f"cannot reach {url}, sorry")
logging.getLogger("kombu").error("Connection to %s lost", url)
try:
    raise ConnectionError(f"amqp://:s3c:r3t@db.example.org//")
except ConnectionError:
    logging.getLogger("celery").exception("broken")
"""


class TestAPassword:
    @pytest.mark.parametrize("form", ["json", "console"])
    def test_in_an_address_is_masked_whoever_quotes_it(self, form: str, tmp_path: Path) -> None:
        told = said(MASKED, form, folder=tmp_path)
        assert "r3t" not in told
        assert told.count("**@db.example.org") == 3


QUOTED = """
import logging

import psycopg.pq  # its loggers are there
from worker import logs
from worker.settings import Settings

logs.set_up(Settings(log_level="DEBUG"))
for name in ("psycopg", "psycopg.pq"):
    logging.getLogger(name).warning("error ignored: Failing row contains (ann@example.org)")
logging.getLogger("psycopg").error("said aloud")
"""


class TestTheDriver:
    def test_quotes_no_row_in_passing(self, tmp_path: Path) -> None:
        told = said(QUOTED, folder=tmp_path)
        assert "ann" not in told
        assert told.count("said aloud") == 1
