"""What tests of metrics do to a database, and ask of it."""

from typing import Any

from sqlalchemy import Engine


def do(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def scalar(engine: Engine, statement: str) -> Any:  # noqa: ANN401  whatever the statement asks for
    with engine.connect() as connection:
        return connection.exec_driver_sql(statement).scalar_one()
