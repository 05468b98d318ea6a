"""`tallyman submit`: one job, or one a line."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from adapters.postgres.queries import JobQueries
from domain.jobs.model import JobState, Receipt, Submission
from domain.kinds import KINDS
from tests.integration.command.conftest import Tallyman
from tests.jobs import build_executor
from worker.producer import Producer

BATCH = "allocation.create_batch"
ORDER = "allocation.allocate_order"
Worker = Callable[[], AbstractContextManager[None]]


def a_batch(reference: str = "b1", quantity: int = 5) -> str:
    return json.dumps({"reference": reference, "sku": "LAMP", "quantity": quantity})


class TestSubmit:
    def test_prints_the_id_of_the_job(self, tallyman: Tallyman, engine: Engine) -> None:
        ran = tallyman("submit", BATCH, a_batch(), "--priority", "7", "--correlation-id", "c")
        assert ran.code == 0
        job = JobQueries(engine).find(ran.out.strip())
        assert job is not None
        assert (job.state, job.priority, job.correlation_id) == (JobState.QUEUED, 7, "c")

    def test_reads_the_payload_from_stdin(self, tallyman: Tallyman) -> None:
        ran = tallyman("submit", BATCH, "-", "--json", stdin=a_batch())
        assert ran.json["payload"]["sku"] == "LAMP"

    def test_does_nothing_for_an_id_that_is_known(self, tallyman: Tallyman) -> None:
        assert tallyman("submit", BATCH, a_batch(), "--id", "j1", "--json").json["is_new"]
        again = tallyman("submit", BATCH, a_batch(), "--id", "j1")
        assert again.code == 0
        assert "known already: queued" in again.err

    def test_refuses_an_id_that_has_another_payload(self, tallyman: Tallyman) -> None:
        tallyman("submit", BATCH, a_batch(), "--id", "j1")
        ran = tallyman("submit", BATCH, a_batch(quantity=6), "--id", "j1")
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("error: IdempotencyConflict: job id j1 was used before")

    def test_follows_a_job_to_its_result(self, tallyman: Tallyman, worker: Worker) -> None:
        with worker():
            ran = tallyman("submit", BATCH, a_batch(), "--wait", "--json")
        assert ran.code == 0
        assert ran.json["result"]["reference"] == "b1"

    def test_follows_a_job_to_its_refusal(self, tallyman: Tallyman, worker: Worker) -> None:
        order = json.dumps({"order_id": "o", "lines": [{"sku": "LAMP", "quantity": 1}]})
        with worker():
            ran = tallyman("submit", ORDER, order, "--wait")
        assert ran.code == 1
        assert "error: InvalidSku: no product has sku 'LAMP'" in ran.out

    def test_is_done_with_what_is_accepted_however_soon_a_worker_refuses_it(
        self, tallyman: Tallyman, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accept = Producer.submit_many

        def accept_and_run(producer: Producer, submissions: Sequence[Submission]) -> list[Receipt]:
            receipts = accept(producer, submissions)
            ids = [receipt.job_id for receipt in receipts]
            build_executor(engine, KINDS).run_dispatched(ORDER, ids, redelivered=False)
            return receipts

        monkeypatch.setattr(Producer, "submit_many", accept_and_run)
        order = json.dumps({"order_id": "o", "lines": [{"sku": "LAMP", "quantity": 1}]})

        ran = tallyman("submit", ORDER, order, "--id", "j1")

        assert (ran.code, ran.out) == (0, "j1\n")
        again = tallyman("submit", ORDER, order, "--id", "j1")
        assert again.code == 1
        assert "known already: rejected" in again.err

    def test_takes_no_payload_that_does_not_fit(self, tallyman: Tallyman) -> None:
        for payload in ("{", "[]", '{"sku": 5}', a_batch(quantity=-1)):
            ran = tallyman("submit", BATCH, payload)
            assert ran.code in (1, 2)
            assert ran.err.startswith("error: ")
            assert len(ran.err.splitlines()) == 1

    def test_takes_a_payload_or_a_file_and_not_both(self, tallyman: Tallyman) -> None:
        assert tallyman("submit", BATCH).code == 2
        assert tallyman("submit", BATCH, a_batch(), "--jsonl", "-").code == 2
        assert tallyman("submit", BATCH, "--jsonl", "-", "--id", "j1").code == 2

    def test_names_the_kinds_there_are(self, tallyman: Tallyman) -> None:
        ran = tallyman("submit", "no.such", "{}")
        assert ran.code == 2
        assert BATCH in ran.err

    def test_says_what_is_away(self, lonely_tallyman: Tallyman) -> None:
        ran = lonely_tallyman("submit", BATCH, a_batch())
        assert ran.code == 4
        assert "no embedded PostgreSQL runs" in ran.err


LINES = "\n".join(
    [
        a_batch("b1"),
        "",
        "{not json",
        json.dumps({"id": "j4", "priority": 3, "payload": json.loads(a_batch("b4"))}),
        a_batch("b5", quantity=-1),
        json.dumps({"id": 6, "payload": {}}),
    ]
)


class TestSubmitLines:
    def test_accepts_good_lines_and_reports_bad_ones_by_number(
        self, tallyman: Tallyman, engine: Engine
    ) -> None:
        ran = tallyman("submit", BATCH, "--jsonl", "-", "--json", stdin=LINES)
        assert ran.code == 1
        assert [(line["line"], line["code"]) for line in ran.json["refused"]] == [
            (3, "InvalidPayload"),
            (5, "InvalidQuantity"),
            (6, "InvalidPayload"),
        ]
        assert [line["line"] for line in ran.json["jobs"]] == [1, 4]
        job = JobQueries(engine).find("j4")
        assert job is not None
        assert job.priority == 3

    def test_tells_people_the_same(self, tallyman: Tallyman) -> None:
        ran = tallyman("submit", BATCH, "--jsonl", "-", stdin=LINES)
        assert "2 accepted, 0 known already, 3 refused" in ran.out
        assert "quantity must be at least 0, got -1" in ran.out

    def test_accepts_none_where_one_is_bad_and_it_is_all_or_nothing(
        self, tallyman: Tallyman, engine: Engine
    ) -> None:
        ran = tallyman("submit", BATCH, "--jsonl", "-", "--all-or-nothing", stdin=LINES)
        assert ran.code == 1
        assert JobQueries(engine).counts() == []

    def test_accepts_none_where_one_is_known_otherwise_and_it_is_all_or_nothing(
        self, tallyman: Tallyman, engine: Engine
    ) -> None:
        tallyman("submit", BATCH, a_batch("other"), "--id", "j4")
        lines = "\n".join(line for line in LINES.splitlines() if "b1" in line or "j4" in line)
        ran = tallyman("submit", BATCH, "--jsonl", "-", "--all-or-nothing", stdin=lines)
        assert ran.code == 1
        assert "IdempotencyConflict" in ran.err
        assert [count.jobs for count in JobQueries(engine).counts()] == [1]

    def test_refuses_only_the_lines_whose_ids_are_known_otherwise(
        self, tallyman: Tallyman, home: Path
    ) -> None:
        tallyman("submit", BATCH, a_batch("other"), "--id", "j4")
        (home / "lines.jsonl").write_text(LINES)
        ran = tallyman("submit", BATCH, "--jsonl", "lines.jsonl", "--json")
        assert [line["line"] for line in ran.json["jobs"]] == [1]
        assert {"line": 4, "code": "IdempotencyConflict"}.items() <= ran.json["refused"][1].items()

    def test_follows_all_of_them(self, tallyman: Tallyman, worker: Worker) -> None:
        lines = "\n".join(a_batch(f"b{number}") for number in range(20))
        with worker():
            ran = tallyman("submit", BATCH, "--jsonl", "-", "--wait", "--json", stdin=lines)
        assert ran.code == 0
        assert {line["state"] for line in ran.json["jobs"]} == {"succeeded"}

    def test_tells_of_a_file_that_is_not_there(self, tallyman: Tallyman) -> None:
        ran = tallyman("submit", BATCH, "--jsonl", "none.jsonl")
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
