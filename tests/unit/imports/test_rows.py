"""Batches and users: a row is a job."""

from collections.abc import Iterator
from typing import Any

import pytest

from domain.imports.columns import Columns
from domain.imports.errors import InvalidMapping
from domain.imports.rows import ImportJob, Row
from domain.imports.runs import Plan, run_id
from domain.imports.targets import IMPORTS, Target
from tests.unit.imports.import_builders import plan, rows

BATCH = ("reference", "sku", "quantity", "eta")


class TestBatches:
    def test_are_one_job_a_row(self) -> None:
        jobs, _ = plan(
            Target.BATCHES, BATCH, rows(("b1", "LAMP", "5", ""), ("b2", "LAMP", "0", "2027-01-10"))
        )
        assert [job.payload for job in jobs] == [
            {"reference": "b1", "sku": "LAMP", "quantity": 5},
            {"reference": "b2", "sku": "LAMP", "quantity": 0, "eta": "2027-01-10"},
        ]

    def test_are_planned_as_the_file_is_read(self) -> None:
        columns = Columns.match(BATCH, IMPORTS[Target.BATCHES].fields, mapped={}, constants={})

        def endless() -> Iterator[Row]:
            line = 1
            while True:
                line += 1
                yield Row(line=line, cells=("b", "LAMP", "1", ""))

        planned = IMPORTS[Target.BATCHES].jobs(endless(), columns)
        assert isinstance(next(planned), ImportJob)


class TestUsers:
    def test_are_one_job_a_row(self) -> None:
        [job], _ = plan(
            Target.USERS,
            ("username", "email", "name", "returning"),
            rows(("ada", "ada@example.com", "Ada", "No")),
        )
        assert job.payload == {
            "username": "ada",
            "email": "ada@example.com",
            "name": "Ada",
            "returning": False,
        }

    def test_are_reported_without_what_their_cells_hold(self) -> None:
        _, [reject] = plan(
            Target.USERS,
            ("username", "email", "name", "returning"),
            rows(("ada", "ada@example.com", "Ada", "ada@example.com")),
        )
        assert "ada" not in reject.reason
        assert "ada" not in repr(reject)


class TestColumns:
    FIELDS = IMPORTS[Target.BATCHES].fields

    def test_take_a_field_from_the_column_it_is_mapped_to(self) -> None:
        columns = Columns.match(
            ("Number", "sku", "quantity"),
            self.FIELDS,
            mapped={"reference": "Number"},
            constants={},
        )
        assert columns.cells(Row(line=2, cells=("b1", "LAMP", "5"))) == {
            "reference": "b1",
            "sku": "LAMP",
            "quantity": "5",
        }

    def test_prefer_what_is_set_to_a_column_of_the_same_name(self) -> None:
        columns = Columns.match(BATCH, self.FIELDS, mapped={}, constants={"sku": "RUG"})
        assert columns.cells(Row(line=2, cells=("b1", "LAMP", "5", "")))["sku"] == "RUG"

    @pytest.mark.parametrize(
        ("header", "mapped", "constants", "told"),
        [
            (BATCH, {"colour": "sku"}, {}, "no field 'colour'"),
            (BATCH, {"sku": "Code"}, {}, "no column 'Code'"),
            (BATCH, {"sku": "sku"}, {"sku": "RUG"}, "both mapped and set"),
            (("reference", "sku"), {}, {}, "no column is mapped to quantity"),
            ((*BATCH, "sku"), {}, {}, "2 columns 'sku'"),
        ],
    )
    def test_refuse_what_cannot_be_matched(
        self,
        header: tuple[str, ...],
        mapped: dict[str, str],
        constants: dict[str, str],
        told: str,
    ) -> None:
        with pytest.raises(InvalidMapping, match=told):
            Columns.match(header, self.FIELDS, mapped=mapped, constants=constants)


class TestRunId:
    def test_is_the_same_for_the_same_content_read_in_the_same_way(self) -> None:
        assert _run() == _run()

    @pytest.mark.parametrize(
        "other",
        [
            {"digest": "another"},
            {"target": Target.USERS},
            {"constants": {"quantity": "5"}},
            {"label": "again"},
            {"max_errors": 3},
        ],
    )
    def test_is_another_for_anything_else(self, other: dict[str, Any]) -> None:
        assert _run(**other) != _run()


def _run(
    *,
    digest: str = "content",
    target: Target = Target.BATCHES,
    constants: dict[str, str] | None = None,
    label: str = "",
    max_errors: int | None = None,
) -> str:
    columns = Columns(places={"sku": 1}, constants=constants or {})
    plan = Plan(target=target, header=BATCH, columns=columns, max_errors=max_errors)
    return run_id(digest=digest, plan=plan, label=label)
