"""Keys and rows in one parameter, as PostgreSQL reads them."""

import pytest
from sqlalchemy import Engine

from adapters.postgres.rows import as_array, as_rows

KEYS = (
    *("a", "", " ", "NULL", "null", "{}", "a,b", "{a}", 'say "hi"', '"', '""', "\\", "\\\\", '\\"'),
    *("\\n", "two\nlines", "tab\there", "\x1f", "ä€😀", "%(keys)s", "$1", "'"),
)


@pytest.mark.parametrize("keys", [(), *((key,) for key in KEYS), KEYS])
def test_an_array_holds_the_keys_that_were_put_into_it(
    engine: Engine, keys: tuple[str, ...]
) -> None:
    with engine.connect() as connection:
        read = connection.exec_driver_sql(
            "SELECT %(keys)s::text[]", {"keys": as_array(keys)}
        ).scalar_one()
    assert read == list(keys)


def test_rows_hold_what_was_put_into_them(engine: Engine) -> None:
    rows = [{"key": key, "number": number, "more": [key]} for number, key in enumerate(KEYS)]
    with engine.connect() as connection:
        read = connection.exec_driver_sql(
            "SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS r (key text, number integer,"
            " more jsonb)",
            {"rows": as_rows(rows)},
        ).all()
    assert [row._asdict() for row in read] == rows
