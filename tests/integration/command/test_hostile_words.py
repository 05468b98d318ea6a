"""What others send, where people read it: it is shown, and steers nothing."""

import io
import json
import logging
import re
import sys
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
from sqlalchemy import Engine

from domain.jobs.parking import Form, Reason
from tests.integration.command.conftest import RunJobs, Tallyman
from tests.integration.command.test_parked import MESSAGE, park
from tests.roles import connected
from worker.logs import set_up
from worker.settings import Settings

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp\x7f\x00".replace("\x00", "")
"""Erases a terminal, retitles it, colours it and turns what follows around."""
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PRINTABLE = (
    "'; DROP TABLE job; --",
    "<script>alert(1)</script>",
    "%s%n{0}{job.id}$(id)`id`",
    "[red]markup[/red] [link=http://x]y[/link]",
    "\\x1b[31m ../../etc/passwd",
    "=cmd|' /C calc'!A1",
)

READS = (
    ("jobs", "list"),
    ("jobs", "show", "evil"),
    ("jobs", "show", "evil", "--reveal", "--traceback"),
    ("jobs", "counts"),
    ("parked", "list"),
    ("parked", "show", "1"),
    ("parked", "show", "1", "--reveal"),
    ("imports", "list"),
    ("orders", "list"),
    ("stock",),
    ("users", "list"),
    ("queues",),
)


@pytest.fixture
def evil(tallyman: Tallyman, engine: Engine, database_url: str, home: Path) -> None:
    """Have such words wherever the database takes them."""
    park(engine, MESSAGE, Reason.UNKNOWN_KIND, Form.MESSAGE, task=EVIL)
    (home / f"a{EVIL}.csv").write_text("reference,sku,quantity\nb1,LAMP,1\n")
    assert tallyman("import", "batches", f"a{EVIL}.csv", "--no-wait").code == 0
    with connected(database_url) as connection:
        error = {"type": EVIL, "module": EVIL, "message": EVIL, "details": {}, "traceback": EVIL}
        connection.execute(
            "INSERT INTO job (id, kind, queue, door, payload, payload_hash, state, error,"
            " max_attempts, finished_at, correlation_id)"
            " VALUES ('evil', %s, 'allocation', 'celery', %s, '', 'dead', %s, 1, now(), %s)",
            [EVIL, json.dumps({"order_id": EVIL}), json.dumps(error), EVIL],
        )
        connection.execute(
            "INSERT INTO job_failure (job_id, attempt, error, worker) VALUES ('evil', 1, %s, %s)",
            [json.dumps(error), EVIL],
        )
        connection.execute("INSERT INTO product (sku) VALUES (%s)", [EVIL])
        connection.execute(
            "INSERT INTO user_account (id, username, username_key, email, email_key, name, status)"
            " VALUES (%s, %s, %s, %s, %s, %s, 'active')",
            [EVIL] * 6,
        )


class TestOutput:
    @pytest.mark.parametrize("arguments", READS, ids=" ".join)
    def test_steers_no_terminal(
        self, tallyman: Tallyman, evil: None, arguments: tuple[str, ...]
    ) -> None:
        for asked in (arguments, (*arguments, "--json")):
            told = tallyman(*asked)
            assert told.code == 0, told.err
            assert CONTROLS.findall(told.out + told.err) == []
            if "--json" in asked and asked[0] not in ("queues", "orders"):
                assert CONTROLS.search(json.dumps(told.json, ensure_ascii=False)), "it is all there"

    @pytest.mark.parametrize(
        "arguments",
        [
            ("jobs", "show", f"no{EVIL}"),
            ("orders", "show", f"no{EVIL}"),
            ("users", "show", f"no{EVIL}"),
            ("stock", f"no{EVIL}"),
            ("jobs", "cancel", f"no{EVIL}"),
            ("import", "orders", f"no{EVIL}.csv"),
            ("submit", f"no{EVIL}", "{}"),
            ("submit", "allocation.cancel_order", "{}", "--id", EVIL),
            ("submit", "allocation.cancel_order", '{"order_id": "o"}', "--correlation-id", EVIL),
            ("submit", "allocation.cancel_order", json.dumps({"order_id": EVIL})),
            ("submit", "allocation.cancel_order", json.dumps({EVIL: EVIL})),
            ("submit", "users.erase", json.dumps({"user_id": EVIL})),
        ],
    )
    def test_refuses_without_being_steered(
        self, tallyman: Tallyman, arguments: tuple[str, ...]
    ) -> None:
        told = tallyman(*arguments)
        assert told.code in (1, 2, 3)
        [line] = told.err.splitlines()
        assert line.startswith("error: ")
        assert CONTROLS.findall(told.out + told.err) == []


class TestWords:
    @pytest.mark.parametrize("word", PRINTABLE)
    def test_are_words_and_no_more(
        self, tallyman: Tallyman, run_jobs: RunJobs, word: str, home: Path
    ) -> None:
        stock = json.dumps({"reference": word, "sku": word, "quantity": 5})
        order = json.dumps({"order_id": word, "lines": [{"sku": word, "quantity": 1}]})
        person = json.dumps({"username": word[:50], "email": f"{uuid4().hex}@x.io", "name": word})
        for kind, payload in (
            ("allocation.create_batch", stock),
            ("allocation.allocate_order", order),
            ("users.register", person),
        ):
            done = tallyman("submit", kind, payload, "--id", f"{kind} {word}")
            assert done.code == 0, done.err
            run_jobs()
        for kind in ("allocation.create_batch", "allocation.allocate_order", "users.register"):
            found = tallyman("jobs", "show", f"{kind} {word}", "--json")
            assert found.json["state"] == "succeeded", found.json
        assert tallyman("orders", "show", word, "--json").json["lines"][0]["sku"] == word
        assert word in tallyman("stock", word).out
        assert word in tallyman("orders", "list").out


class TestLogs:
    @pytest.mark.parametrize("log_format", ["console", "json"])
    def test_are_forged_by_nobody(self, log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
        written = io.StringIO()
        monkeypatch.setattr(sys, "stderr", written)
        root = logging.getLogger()
        before = (root.handlers, root.level, structlog.get_config())
        try:
            set_up(Settings.model_validate({"log_format": log_format}))
            log = structlog.get_logger()
            log.info("message_parked", task=f"{EVIL}\n2026-01-01 [info] all_is_well")
            logging.getLogger("stranger").error("said %s", EVIL)
            try:
                fails()
            except ValueError:
                log.exception("process_failed")
        finally:
            root.handlers, root.level = before[:2]
            structlog.configure(**before[2])
        assert CONTROLS.findall(written.getvalue()) == []
        assert [
            line for line in written.getvalue().splitlines() if line.startswith("2026-01-01")
        ] == []


def fails() -> None:
    raise ValueError(EVIL)
