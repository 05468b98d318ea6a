"""The statements of operations are taken by the database that they are for."""

import re

import psycopg

from tests.conftest import ROOT

BLOCK = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class TestStatements:
    def test_of_operations_are_taken(self, database_url: str) -> None:
        blocks = BLOCK.findall((ROOT / "docs" / "operations.md").read_text(encoding="utf-8"))
        statements = [each for block in blocks for each in block.split(";") if each.strip()]
        assert len(statements) > 6
        with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
            for statement in statements:
                assert connection.execute(statement.encode()).description is not None
