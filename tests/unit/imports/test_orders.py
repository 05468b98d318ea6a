"""Orders: rows that name one order become one job."""

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from domain.imports.rows import ImportJob, Reject
from domain.imports.targets import Target
from tests.unit.imports.import_builders import plan, rows

HEADER = ("order_id", "sku", "quantity")


class TestGrouping:
    def test_makes_one_job_of_the_rows_of_an_order(self) -> None:
        [job], rejects = plan(Target.ORDERS, HEADER, rows(("o1", "LAMP", "2"), ("o1", "SOFA", "1")))
        assert job.payload == {
            "order_id": "o1",
            "lines": [
                {"sku": "LAMP", "quantity": 2, "line_id": "1"},
                {"sku": "SOFA", "quantity": 1, "line_id": "2"},
            ],
        }
        assert rejects == []

    def test_finds_the_rows_of_an_order_wherever_they_stand(self) -> None:
        jobs, _ = plan(
            Target.ORDERS,
            HEADER,
            rows(("o1", "LAMP", "2"), ("o2", "SOFA", "1"), ("o1", "LAMP", "3")),
        )
        assert [[row.line for row in job.rows] for job in jobs] == [[2, 4], [3]]

    def test_keeps_two_lines_of_one_sku_apart(self) -> None:
        [job], _ = plan(Target.ORDERS, HEADER, rows(("o1", "LAMP", "2"), ("o1", "LAMP", "3")))
        assert [line["line_id"] for line in job.payload["lines"]] == ["1", "2"]

    def test_trims_the_spaces_around_cells(self) -> None:
        [job], _ = plan(Target.ORDERS, HEADER, rows((" o1 ", "LAMP ", " 2"), ("o1", "SOFA", "1")))
        assert [line["sku"] for line in job.payload["lines"]] == ["LAMP", "SOFA"]

    def test_takes_line_ids_from_a_column(self) -> None:
        [job], rejects = plan(
            Target.ORDERS,
            (*HEADER, "line_id"),
            rows(("o1", "LAMP", "2", "a"), ("o1", "SOFA", "1", ""), ("o1", "RUG", "1", "a")),
        )
        assert [line["line_id"] for line in job.payload["lines"]] == ["a", "2"]
        assert [(reject.line, reject.code) for reject in rejects] == [(4, "InvalidOrder")]


class TestBadRows:
    def test_report_a_negative_quantity_and_keep_the_rest_of_the_order(self) -> None:
        [job], [reject] = plan(
            Target.ORDERS, HEADER, rows(("o1", "LAMP", "-1"), ("o1", "SOFA", "1"))
        )
        assert (reject.line, reject.code) == (2, "InvalidQuantity")
        assert reject.reason == "quantity must be at least 1, got -1"
        assert job.payload["lines"] == [{"sku": "SOFA", "quantity": 1, "line_id": "2"}]

    def test_make_no_order_where_all_of_its_rows_are_bad(self) -> None:
        jobs, rejects = plan(Target.ORDERS, HEADER, rows(("C1", "LAMP", "-1"), ("C1", "D", "-9")))
        assert jobs == []
        assert [reject.line for reject in rejects] == [2, 3]

    def test_report_a_blank_sku(self) -> None:
        _, [reject] = plan(Target.ORDERS, HEADER, rows(("o1", " ", "1")))
        assert reject.code == "InvalidSku"

    def test_report_what_is_no_whole_number(self) -> None:
        _, rejects = plan(
            Target.ORDERS,
            HEADER,
            rows(*(("o1", "LAMP", text) for text in ("", "two", "1.5", "1e3"))),
        )
        assert [reject.code for reject in rejects] == ["InvalidQuantity"] * 4

    def test_read_what_spreadsheets_write_for_a_whole_number(self) -> None:
        [job], _ = plan(Target.ORDERS, HEADER, rows(("o1", "LAMP", "2.0"), ("o1", "LAMP", "+3")))
        assert [line["quantity"] for line in job.payload["lines"]] == [2, 3]

    def test_pass_on_what_could_not_be_read(self) -> None:
        unreadable = Reject(line=2, code="UnreadableRow", reason="no")
        assert plan(Target.ORDERS, HEADER, [unreadable]) == ([], [unreadable])


class TestTerms:
    def test_are_set_for_all_orders(self) -> None:
        [job], _ = plan(
            Target.ORDERS,
            HEADER,
            rows(("o1", "LAMP", "1")),
            constants={"policy": "backorder", "may_split": "yes", "priority": "5"},
        )
        terms = {name: job.payload[name] for name in ("policy", "may_split", "priority")}
        assert terms == {"policy": "backorder", "may_split": True, "priority": 5}

    def test_of_a_row_that_differ_from_the_first_are_reported(self) -> None:
        [job], [reject] = plan(
            Target.ORDERS,
            (*HEADER, "policy"),
            rows(("o1", "LAMP", "1", "partial"), ("o1", "SOFA", "1", "backorder")),
        )
        assert job.payload["policy"] == "partial"
        assert (reject.line, reject.code) == (3, "InvalidOrder")
        assert "differ in policy" in reject.reason


_texts = st.sampled_from(["", " ", "LAMP", "SOFA", "x" * 65, "a\x00b"])
_numbers = st.integers(-3, 9).map(str) | st.sampled_from(["", "x", "9" * 30])
_orders = st.sampled_from(["", "o1", "o2", "C3"])


class TestAccounting:
    @given(st.lists(st.tuples(_orders, _texts, _numbers, st.sampled_from(["", "1", "7"]))))
    def test_finds_every_row_in_one_job_or_in_one_reject(
        self, cells: list[tuple[str, str, str, str]]
    ) -> None:
        read = rows(*cells)
        jobs, rejects = plan(Target.ORDERS, (*HEADER, "line_id"), read)
        found = [row.line for job in jobs for row in job.rows] + [each.line for each in rejects]
        assert sorted(found) == [row.line for row in read]
        assert all(len(job.rows) == len(job.payload["lines"]) for job in jobs)

    @given(st.lists(st.tuples(_orders, _texts, _numbers)), st.randoms())
    def test_makes_the_same_orders_of_rows_in_any_order(
        self, cells: list[tuple[str, str, str]], random: Random
    ) -> None:
        read = rows(*cells)
        shuffled = list(read)
        random.shuffle(shuffled)
        assert _contents(plan(Target.ORDERS, HEADER, read)[0]) == _contents(
            plan(Target.ORDERS, HEADER, shuffled)[0]
        )


def _contents(jobs: Sequence[ImportJob]) -> dict[str, list[tuple[str, int]]]:
    return {
        job.payload["order_id"]: sorted(
            (line["sku"], line["quantity"]) for line in job.payload["lines"]
        )
        for job in jobs
    }
