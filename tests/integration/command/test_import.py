"""`tallyman import`: every row becomes part of a job, or is reported."""

import csv
import gzip
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from adapters.postgres.queries import JobQueries
from tests.integration.command.conftest import Ran, RunJobs, Tallyman

Worker = Callable[[], AbstractContextManager[None]]

STOCK = "reference,sku,quantity,eta\nb1,LAMP,10,\nb2,RUG,5,2027-01-10\n"
SALES = (
    "InvoiceNo;StockCode;Description;Quantity\n"
    "1;LAMP;a lamp;2\n"
    "1;RUG;a rug, woven;1\n"
    "C2;LAMP;returned;-1\n"
    "3;LAMP;more than there is;99\n"
    "1;LAMP;another lamp;-2\n"
    "1;;no code;1\n"
    "4;SOFA;unknown;1\n"
    "5;LAMP\n"
)
MAPPED = ("--map", "order_id=InvoiceNo,sku=StockCode", "--map", "quantity=Quantity")


@pytest.fixture
def sales(home: Path) -> Path:
    (home / "stock.csv").write_text(STOCK)
    (home / "sales.csv").write_text(SALES)
    return home / "sales.csv"


def in_all(ran: Ran) -> dict[str, Any]:
    summary: dict[str, Any] = ran.json
    assert summary["rows_read"] == summary["rows_in_jobs"] + summary["rows_reported"]
    return summary


class TestImport:
    def test_follows_every_job_to_its_end(
        self, tallyman: Tallyman, sales: Path, worker: Worker
    ) -> None:
        with worker():
            stock = tallyman("import", "batches", "stock.csv", "--json")
            orders = tallyman("import", "orders", sales, *MAPPED, "--json")
        assert (stock.code, orders.code) == (0, 1)
        assert in_all(stock)["states"] == {"succeeded": 2}
        summary = in_all(orders)
        assert (summary["rows_read"], summary["rows_in_jobs"], summary["jobs"]) == (8, 4, 3)
        assert {each["code"]: each["rows"] for each in summary["reported"]} == {
            "InvalidQuantity": 2,
            "InvalidSku": 1,
            "UnreadableRow": 1,
        }
        assert summary["states"] == {"succeeded": 1, "rejected": 2}
        assert {each["code"]: each["jobs"] for each in summary["reasons"]} == {
            "OutOfStock": 1,
            "InvalidSku": 1,
        }
        assert summary["jobs_per_second"] > 0

    def test_orders_the_rest_of_an_order_with_a_bad_row(
        self, tallyman: Tallyman, sales: Path, worker: Worker
    ) -> None:
        with worker():
            tallyman("import", "batches", "stock.csv")
            tallyman("import", "orders", sales, *MAPPED)
        lines = tallyman("orders", "show", "1", "--json").json["lines"]
        assert [(line["line_id"], line["sku"], line["allocated"]) for line in lines] == [
            ("1", "LAMP", 2),
            ("2", "RUG", 1),
        ]

    def test_tells_people_the_sum_and_the_reasons(
        self, tallyman: Tallyman, sales: Path, worker: Worker
    ) -> None:
        with worker():
            told = tallyman("import", "orders", sales, *MAPPED).out
        assert "8 rows read = 4 in 3 jobs + 4 reported" in told
        assert "quantity must be at least 1, got -1" in told
        assert "no product has sku 'LAMP'" in told
        assert "3 jobs in" in told

    def test_does_nothing_new_for_a_file_that_was_imported_before(
        self, tallyman: Tallyman, sales: Path, engine: Engine, run_jobs: RunJobs
    ) -> None:
        first = in_all(tallyman("import", "orders", sales, *MAPPED, "--no-wait", "--json"))
        assert (first["new_jobs"], first["states"]) == (3, None)
        run_jobs()
        (sales.parent / "packed").write_bytes(gzip.compress(SALES.encode()))
        again = tallyman("import", "orders", "packed", *MAPPED)
        assert "imported before" in again.out
        assert sum(count.jobs for count in JobQueries(engine).counts()) == 3

    def test_imports_a_file_again_under_another_label(
        self, tallyman: Tallyman, sales: Path
    ) -> None:
        tallyman("import", "orders", sales, *MAPPED, "--no-wait")
        again = tallyman(
            "import", "orders", sales, *MAPPED, "--label", "restocked", "--no-wait", "--json"
        )
        assert in_all(again)["new_jobs"] == 3

    def test_accepts_the_orders_in_the_order_of_the_file(
        self, tallyman: Tallyman, sales: Path, engine: Engine
    ) -> None:
        run = in_all(tallyman("import", "orders", sales, *MAPPED, "--no-wait", "--json"))["run"]
        jobs = JobQueries(engine).newest(correlation_id=run)
        by_id = sorted(jobs, key=lambda job: job.id)
        assert [job.payload["order_id"] for job in by_id] == ["1", "3", "4"]

    def test_sets_what_the_file_does_not_say(
        self, tallyman: Tallyman, sales: Path, engine: Engine
    ) -> None:
        settings = ("--set", "policy=backorder", "--set", "may_split=true", "--set", "priority=4")
        tallyman("import", "orders", sales, *MAPPED, *settings, "--no-wait")
        payload = JobQueries(engine).newest()[0].payload
        assert (payload["policy"], payload["may_split"], payload["priority"]) == (
            "backorder",
            True,
            4,
        )

    def test_reports_all_rows_of_an_order_that_is_none(
        self, tallyman: Tallyman, home: Path
    ) -> None:
        rows = [f"{order},LAMP,1" for order in ("x" * 65, "x" * 65, "", *["big"] * 1_001)]
        (home / "odd.csv").write_text("\n".join(["order_id,sku,quantity", *rows]))
        summary = in_all(tallyman("import", "orders", "odd.csv", "--no-wait", "--json"))
        assert summary["jobs"] == 0
        assert {each["code"]: each["rows"] for each in summary["reported"]} == {
            "InvalidIdentifier": 3,
            "InvalidOrder": 1_001,
        }

    def test_imports_users_with_their_rejects_in_a_file_for_its_owner_alone(
        self, tallyman: Tallyman, home: Path, worker: Worker
    ) -> None:
        people = (
            "Login,Mail,Name\nada,ada@example.com,Ada\nbob,nowhere,Bob\nada,a@example.com,Ada\n"
        )
        (home / "people.csv").write_text(people)
        with worker():
            ran = tallyman(
                *("import", "users", "people.csv", "--rejects", "rejects.csv", "--json"),
                *("--map", "username=Login,email=Mail,name=Name"),
            )
        assert ran.code == 1
        assert in_all(ran)["states"] == {"succeeded": 1, "rejected": 1}
        assert "nowhere" not in ran.out
        rejects = home / "rejects.csv"
        assert rejects.stat().st_mode & 0o777 == 0o600
        with rejects.open(newline="") as file:
            [row] = csv.DictReader(file)
        assert (row["line"], row["code"], row["Mail"]) == ("3", "InvalidEmail", "nowhere")

    def test_shows_what_would_happen_without_a_server(
        self, lonely_tallyman: Tallyman, sales: Path
    ) -> None:
        ran = lonely_tallyman("import", "orders", sales, *MAPPED, "--dry-run", "--json")
        assert ran.code == 1
        assert (in_all(ran)["jobs"], ran.json["new_jobs"]) == (3, 0)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("orders", "sales.csv"),
            ("orders", "sales.csv", "--map", "order_id"),
            ("orders", "sales.csv", "--map", "order_id=InvoiceNo", "--map", "order_id=Quantity"),
            ("orders", "sales.csv", *MAPPED, "--set", "colour=red"),
            ("orders", "none.csv", *MAPPED),
            ("orders", "sales.csv", *MAPPED, "--rejects", "sales.csv"),
            ("orders", "sales.csv", *MAPPED, "--rejects", "no/such/folder"),
        ],
    )
    def test_says_in_one_line_what_cannot_be_used(
        self, tallyman: Tallyman, sales: Path, arguments: tuple[str, ...]
    ) -> None:
        ran = tallyman("import", *arguments, "--dry-run")
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
        assert sales.read_text() == SALES

    def test_reads_a_column_whose_name_holds_a_comma(
        self, lonely_tallyman: Tallyman, home: Path
    ) -> None:
        (home / "odd.csv").write_text('"ref, no";sku;quantity\nb1;LAMP;1\n')
        mapped = ("--map", "reference=ref, no,sku=sku")
        assert lonely_tallyman("import", "batches", "odd.csv", *mapped, "--dry-run").code == 0


class TestWhatIsAway:
    def test_is_told_in_one_line(
        self, lonely_tallyman: Tallyman, sales: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(
            "TALLYMAN_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
        )
        for arguments in (("import", "batches", "stock.csv"), ("stock",)):
            ran = lonely_tallyman(*arguments)
            assert ran.code == 4
            assert ran.err.startswith("error: PostgreSQL is away")
            assert len(ran.err.splitlines()) == 1

    def test_may_be_the_tables(self, tallyman: Tallyman, engine: Engine, database_url: str) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE job RENAME TO gone")
        ran = tallyman("jobs", "counts")
        assert (ran.code, "tallyman migrate upgrade" in ran.err) == (4, True)
