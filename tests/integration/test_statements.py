"""What a transaction says to PostgreSQL: in order, and no sooner than it has to be said."""

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from adapters.postgres.statements import Statement, Statements
from domain.errors import StaleDecision

ADD = "INSERT INTO product (sku) VALUES (%(sku)s) ON CONFLICT DO NOTHING"
ADD_AGAIN = "INSERT INTO product (sku) VALUES (%(sku)s)"
COUNT = "SELECT count(*) AS products FROM product"


@pytest.fixture
def statements(connection: Connection) -> Statements:
    return Statements(connection)


def products(engine: Engine) -> int:
    """Count what others see."""
    with engine.connect() as other:
        return int(other.exec_driver_sql(COUNT).scalar_one())


def all_written(written: int) -> None:
    if written != 1:
        raise StaleDecision(f"{written} written")


class TestWhatIsAsked:
    def test_is_answered_in_named_rows(self, statements: Statements) -> None:
        [row] = statements.ask(
            "SELECT %(a)s::int AS first, '{\"b\": 2}'::jsonb AS second", {"a": 1}
        )
        assert (row.first, row.second) == (1, {"b": 2})
        assert tuple(row) == (1, {"b": 2})

    def test_together_is_answered_each(self, statements: Statements) -> None:
        answers = statements.ask_together(Statement("SELECT 1"), Statement("SELECT 2 AS a, 3 AS b"))
        assert answers == [[(1,)], [(2, 3)]]

    def test_tells_how_many_rows_it_wrote(self, statements: Statements) -> None:
        assert statements.write(ADD, {"sku": "LAMP"}) == 1
        assert statements.write(ADD, {"sku": "LAMP"}) == 0


class TestWhatIsTold:
    def test_comes_before_what_is_asked_next(self, statements: Statements) -> None:
        statements.tell(ADD, {"sku": "LAMP"})
        statements.tell(ADD, {"sku": "CHAIR"})
        assert statements.ask(COUNT) == [(2,)]

    def test_is_sent_where_it_has_to_settle(
        self, statements: Statements, connection: Connection, engine: Engine
    ) -> None:
        statements.tell(ADD, {"sku": "LAMP"})
        statements.settle()
        connection.commit()
        assert products(engine) == 1

    def test_is_not_sent_before(
        self, statements: Statements, connection: Connection, engine: Engine
    ) -> None:
        statements.tell(ADD, {"sku": "LAMP"})
        connection.commit()
        assert products(engine) == 0

    def test_may_be_forgotten(self, statements: Statements) -> None:
        statements.tell(ADD, {"sku": "LAMP"})
        statements.forget()
        assert statements.ask(COUNT) == [(0,)]

    def test_has_its_rows_counted(self, statements: Statements) -> None:
        counted: list[int] = []
        statements.tell(ADD, {"sku": "LAMP"}, check=counted.append)
        statements.tell(ADD, {"sku": "LAMP"}, check=counted.append)
        assert not counted
        statements.settle()
        assert counted == [1, 0]

    def test_may_be_found_stale(self, statements: Statements) -> None:
        statements.write(ADD, {"sku": "LAMP"})
        statements.tell(ADD, {"sku": "LAMP"}, check=all_written)
        with pytest.raises(StaleDecision, match="0 written"):
            statements.ask(COUNT)


class TestWhatFails:
    def test_fails_where_it_is_sent(self, statements: Statements, connection: Connection) -> None:
        statements.tell("SELECT 1 / 0")
        statements.tell(ADD, {"sku": "LAMP"})
        with pytest.raises(DataError):
            statements.settle()
        connection.rollback()
        assert not connection.invalidated

    def test_takes_what_follows_with_it(
        self, statements: Statements, connection: Connection, engine: Engine
    ) -> None:
        counted: list[int] = []
        statements.tell("SELECT 1 / 0")
        statements.tell(ADD, {"sku": "LAMP"}, check=counted.append)
        with pytest.raises(DataError):
            statements.ask(COUNT)
        connection.rollback()
        assert (counted, products(engine)) == ([], 0)

    def test_for_what_is_stale_is_stale(self, statements: Statements) -> None:
        # As lines of an order that another transaction has placed meanwhile.
        statements.write(ADD, {"sku": "LAMP"})
        statements.tell(ADD, {"sku": "LAMP"}, check=all_written)
        statements.tell(ADD_AGAIN, {"sku": "LAMP"})
        with pytest.raises(StaleDecision) as stale:
            statements.settle()
        # Nor does it quote the row.
        assert stale.value.__context__ is None

    def test_while_another_error_is_handled_is_not_taken_for_it(
        self, statements: Statements
    ) -> None:
        statements.tell("SELECT 1")
        statements.tell("SELECT 1 / 0")
        try:
            int("no number")
        except ValueError:
            with pytest.raises(DataError):
                statements.settle()

    def test_otherwise_is_what_the_database_says(self, statements: Statements) -> None:
        statements.tell(ADD, {"sku": "LAMP"}, check=all_written)
        statements.tell(ADD_AGAIN, {"sku": "LAMP"})
        with pytest.raises(IntegrityError):
            statements.settle()

    @pytest.mark.parametrize("told", [0, 2])
    def test_with_its_connection_leaves_none_to_the_pool(
        self, statements: Statements, connection: Connection, engine: Engine, told: int
    ) -> None:
        [(process,)] = statements.ask("SELECT pg_backend_pid()")
        with engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({process}, 5000)")
        for number in range(told):
            statements.tell(ADD, {"sku": f"LAMP-{number}"})
        with pytest.raises(OperationalError):
            statements.ask(COUNT)
        assert connection.invalidated
