"""Users from a file: registered, updated or left as they are, row by row."""

import random
from collections.abc import Mapping

import pytest
from sqlalchemy import Engine, text

from adapters.postgres.import_queries import ImportQueries, RunView
from domain.imports.runs import OnExists
from domain.imports.targets import Target
from domain.jobs.model import Submission
from domain.kinds import KINDS
from tests.integration.imports.conftest import Importing
from tests.jobs import build_executor

HEADER = "external_id,username,email,name"


def came_to(run: RunView) -> dict[str, int]:
    return {end: rows for end, rows in run.ends.items() if rows}


def people(engine: Engine) -> dict[str, tuple[str, str, int]]:
    """Return username, name and version by email."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT email, username, name, version FROM user_account"))
        return {row.email: (row.username, row.name, row.version) for row in rows}


def reasons(importing: Importing, run: RunView) -> Mapping[int, str]:
    return {error.line: error.code for error in ImportQueries(importing.engine).errors(run.id)}


class TestOnExists:
    @pytest.mark.parametrize(
        ("on_exists", "ends", "name"),
        [
            (OnExists.FAIL, {"created": 1, "unchanged": 0, "updated": 0, "refused": 2}, "Ada"),
            (OnExists.SKIP, {"created": 1, "unchanged": 2, "updated": 0, "refused": 0}, "Ada"),
            (OnExists.UPDATE, {"created": 1, "unchanged": 1, "updated": 1, "refused": 0}, "Ada L."),
        ],
    )
    def test_decides_for_who_is_there(
        self,
        importing: Importing,
        engine: Engine,
        on_exists: OnExists,
        ends: dict[str, int],
        name: str,
    ) -> None:
        first = [HEADER, "1,ada,ada@example.com,Ada", "2,bob,bob@example.com,Bob"]
        importing.finished(Target.USERS, first)
        second = [
            HEADER,
            "1,ada,ada@example.com,Ada L.",
            "2,bob,bob@example.com,Bob",
            "3,cy,cy@example.com,Cy",
        ]
        run = importing.finished(Target.USERS, second, on_exists=on_exists)
        assert came_to(run) == {end: rows for end, rows in ends.items() if rows}
        assert people(engine)["ada@example.com"][1] == name

    def test_matches_by_external_id_before_email(
        self, importing: Importing, engine: Engine
    ) -> None:
        first = [HEADER, "1,ada,ada@example.com,Ada", "2,bob,bob@example.com,Bob"]
        importing.finished(Target.USERS, first)
        moved = [HEADER, "1,ada,ada@new.example,Ada"]
        run = importing.finished(Target.USERS, moved, on_exists=OnExists.UPDATE)
        assert came_to(run) == {"updated": 1}
        assert set(people(engine)) == {"ada@new.example", "bob@example.com"}

    def test_meets_the_users_as_the_rows_before_left_them(
        self, importing: Importing, engine: Engine
    ) -> None:
        rows = [
            HEADER,
            "1,ada,ada@example.com,Ada",
            "1,ada,ada@new.example,Ada",
            "2,bob,ada@example.com,Bob",
            "2,bob,ada@example.com,Bobby",
            ",bob,ADA@EXAMPLE.COM,Bobby",
        ]
        run = importing.finished(Target.USERS, rows, on_exists=OnExists.UPDATE)
        assert came_to(run) == {"created": 2, "updated": 3}
        assert people(engine) == {
            "ada@new.example": ("ada", "Ada", 2),
            "ADA@EXAMPLE.COM": ("bob", "Bobby", 3),
        }

    def test_refuses_one_duplicate_and_no_other_row(
        self, importing: Importing, engine: Engine
    ) -> None:
        rows = [f"{n},user{n},user{n}@example.com,User" for n in range(5_000)]
        rows[1_234] = "x,user7,other@example.com,User"
        rows[3_000] = "y,other,user8@example.com,User"
        rows[4_000] = "z,,nowhere,User"
        run = importing.finished(Target.USERS, [HEADER, *rows])
        assert came_to(run) == {"created": 4_997, "refused": 2, "failed": 1}
        assert reasons(importing, run) == {
            1_236: "UsernameTaken",
            3_002: "EmailTaken",
            4_002: "InvalidUsername",
        }
        assert len(people(engine)) == 4_997

    def test_does_not_bring_back_who_was_erased(self, importing: Importing, engine: Engine) -> None:
        importing.finished(Target.USERS, [f"user_id,{HEADER}", "u1,1,ada,ada@example.com,Ada"])
        erase = Submission(job_id="erase", kind="users.erase", payload={"user_id": "u1"})
        build_executor(engine, KINDS).run_submitted(erase, redelivered=False)
        rows = [HEADER, "1,ada,ada@example.com,Ada"]
        run = importing.finished(Target.USERS, rows, on_exists=OnExists.UPDATE)
        assert came_to(run) == {"refused": 1}
        assert reasons(importing, run) == {2: "UserIsErased"}


class TestErrors:
    def test_name_the_column_and_the_cell_and_keep_no_more_of_a_person(
        self, importing: Importing
    ) -> None:
        run = importing.finished(Target.USERS, [HEADER, "1,ada,nowhere,Ada Lovelace", "2,bob,Bob"])
        bad, ragged = ImportQueries(importing.engine).errors(run.id)
        assert (bad.line, bad.column, bad.value) == (2, "email", "nowhere")
        assert (ragged.line, ragged.column, ragged.value) == (3, None, None)

    def test_forget_a_cell_of_who_is_erased(self, importing: Importing, engine: Engine) -> None:
        importing.finished(Target.USERS, [f"user_id,{HEADER}", "u1,1,ada,ada@example.com,Ada"])
        run = importing.finished(Target.USERS, [HEADER, "9,eve,Ada@Example.com,Eve"])
        [error] = ImportQueries(engine).errors(run.id)
        assert (error.code, error.column, error.value) == ("EmailTaken", "email", "Ada@Example.com")
        erase = Submission(job_id="erase", kind="users.erase", payload={"user_id": "u1"})
        build_executor(engine, KINDS).run_submitted(erase, redelivered=False)
        [error] = ImportQueries(engine).errors(run.id)
        assert error.value is None


class TestTheWhole:
    @pytest.mark.parametrize("seed", range(5))
    def test_is_what_rows_one_by_one_would_come_to(
        self, importing: Importing, engine: Engine, seed: int
    ) -> None:
        source = random.Random(seed)
        rows = [
            f"{source.randrange(40) or ''},user{source.randrange(40)},"
            f"user{source.randrange(40)}@example.com,Name {source.randrange(3)}"
            for _ in range(150)
        ]
        together = importing.finished(
            Target.USERS, [HEADER, *rows], on_exists=OnExists.UPDATE, label="together"
        )
        whole = people(engine)
        with engine.begin() as connection:
            connection.execute(text("TRUNCATE user_account"))
        ends: dict[str, int] = {}
        for number, row in enumerate(rows):
            run = importing.finished(
                Target.USERS, [HEADER, row], on_exists=OnExists.UPDATE, label=str(number)
            )
            [end] = came_to(run)
            ends[end] = ends.get(end, 0) + 1
        assert people(engine) == whole
        assert came_to(together) == ends
