"""`tallyman import`: every row becomes part of a job, or is reported."""

import csv
import gzip
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.integration.command.conftest import Ran, Tallyman

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
    assert summary["rows"] == sum(summary["ends"].values())
    return summary


def came_to(summary: dict[str, Any]) -> dict[str, int]:
    return {end: rows for end, rows in summary["ends"].items() if rows}


class TestImport:
    def test_follows_every_row_to_its_end(
        self, tallyman: Tallyman, sales: Path, worker: Worker
    ) -> None:
        with worker():
            stock = tallyman("import", "batches", "stock.csv", "--json")
            orders = tallyman("import", "orders", sales, *MAPPED, "--json")
        assert (stock.code, orders.code) == (0, 1)
        assert came_to(in_all(stock)) == {"created": 2}
        summary = in_all(orders)
        assert (summary["state"], summary["rows"]) == ("finished", 8)
        assert came_to(summary) == {"allocated": 2, "refused": 2, "failed": 4}
        assert {each["code"]: each["rows"] for each in summary["reasons"]} == {
            "InvalidQuantity": 2,
            "InvalidSku": 2,
            "OutOfStock": 1,
            "UnreadableRow": 1,
        }
        assert summary["rows_per_second"] > 0

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
        assert "8 rows = 4 refused + 4 failed" in told
        assert "quantity must be at least 1, got -1" in told
        assert "no product has sku 'LAMP'" in told
        assert "8 rows in" in told

    def test_does_nothing_for_a_file_that_was_imported_before(
        self, tallyman: Tallyman, sales: Path, worker: Worker
    ) -> None:
        first = tallyman("import", "orders", sales, *MAPPED, "--no-wait", "--json").json
        assert (first["is_new"], first["state"], first["ends"]["refused"]) == (True, "running", 0)
        (sales.parent / "packed").write_bytes(gzip.compress(SALES.encode()))
        with worker():
            again = tallyman("import", "orders", "packed", *MAPPED)
        assert "imported before" in again.out
        assert len(tallyman("imports", "list", "--json").json) == 1

    def test_imports_a_file_again_under_another_label(
        self, tallyman: Tallyman, sales: Path
    ) -> None:
        tallyman("import", "orders", sales, *MAPPED, "--no-wait")
        tallyman("import", "orders", sales, *MAPPED, "--label", "restocked", "--no-wait")
        assert len(tallyman("imports", "list", "--json").json) == 2

    def test_counts_what_it_is_told_to_skip(
        self, tallyman: Tallyman, sales: Path, worker: Worker
    ) -> None:
        skip = ("--skip", "InvoiceNo^=C:cancellation")
        with worker():
            summary = in_all(tallyman("import", "orders", sales, *MAPPED, *skip, "--json"))
        assert summary["skipped"] == {"cancellation": 1}
        assert (summary["ends"]["skipped"], summary["ends"]["failed"]) == (1, 3)

    def test_sets_what_the_file_does_not_say(
        self, tallyman: Tallyman, sales: Path, worker: Worker
    ) -> None:
        settings = ("--set", "policy=backorder", "--set", "may_split=true", "--set", "priority=4")
        with worker():
            tallyman("import", "batches", "stock.csv")
            tallyman("import", "orders", sales, *MAPPED, *settings)
        order = tallyman("orders", "show", "3", "--json").json
        assert (order["policy"], order["may_split"], order["priority"]) == ("backorder", True, 4)

    def test_fills_empty_cells_with_defaults(
        self, tallyman: Tallyman, home: Path, worker: Worker
    ) -> None:
        (home / "few.csv").write_text("reference,sku,quantity\nb1,LAMP,\nb2,LAMP,3\n")
        with worker():
            tallyman("import", "batches", "few.csv", "--default", "quantity=7")
        [product] = tallyman("stock", "--json").json
        assert product["purchased"] == 10

    def test_imports_nothing_of_a_file_with_a_bad_row_where_that_is_the_policy(
        self, tallyman: Tallyman, home: Path, worker: Worker
    ) -> None:
        rows = [f"b{number},LAMP,{number}" for number in range(5_000)]
        (home / "bad.csv").write_text("\n".join(["reference,sku,quantity", *rows, "b,LAMP,-1"]))
        (home / "good.csv").write_text("\n".join(["reference,sku,quantity", *rows]))
        policy = ("--policy", "reject_file", "--json")
        with worker():
            bad = tallyman("import", "batches", "bad.csv", *policy)
            assert (bad.code, bad.json["state"]) == (1, "refused")
            assert tallyman("stock", "--json").json == []
            good = tallyman("import", "batches", "good.csv", *policy)
        assert (good.code, came_to(in_all(good))) == (0, {"created": 5_000})

    def test_stops_at_too_many_errors(self, tallyman: Tallyman, home: Path, worker: Worker) -> None:
        rows = [f"b{number},LAMP,-1" for number in range(9_000)]
        (home / "bad.csv").write_text("\n".join(["reference,sku,quantity", *rows]))
        with worker():
            ran = tallyman("import", "batches", "bad.csv", "--max-errors", "100", "--json")
        assert (ran.code, ran.json["state"]) == (1, "refused")
        assert 100 < ran.json["ends"]["failed"] < 9_000

    def test_reports_all_rows_of_an_order_that_is_none(
        self, tallyman: Tallyman, home: Path, worker: Worker
    ) -> None:
        rows = [f"{order},LAMP,1" for order in ("x" * 65, "x" * 65, "", *["big"] * 1_001)]
        (home / "odd.csv").write_text("\n".join(["order_id,sku,quantity", *rows]))
        with worker():
            summary = in_all(tallyman("import", "orders", "odd.csv", "--json"))
        assert {each["code"]: each["rows"] for each in summary["reasons"]} == {
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
        assert came_to(in_all(ran)) == {"created": 1, "refused": 1, "failed": 1}
        assert "nowhere" not in ran.out
        rejects = home / "rejects.csv"
        assert rejects.stat().st_mode & 0o777 == 0o600
        with rejects.open(newline="") as file:
            [bob, ada] = csv.DictReader(file)
        assert list(bob.values())[:3] == ["3", "Mail", "InvalidEmail"]
        assert bob["value"] == "nowhere"
        assert (ada["line"], ada["column"], ada["code"]) == ("4", "Login", "UsernameTaken")

    def test_shows_what_would_happen_without_a_server(
        self, lonely_tallyman: Tallyman, sales: Path
    ) -> None:
        ran = lonely_tallyman("import", "orders", sales, *MAPPED, "--dry-run", "--json")
        assert ran.code == 1
        assert (ran.json["run"], came_to(in_all(ran))) == (None, {"unchanged": 4, "failed": 4})

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
