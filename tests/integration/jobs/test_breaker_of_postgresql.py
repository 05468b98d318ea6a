"""The breaker of PostgreSQL: what opens it, and what never does."""

import pytest
import sqlalchemy.exc
from sqlalchemy import Engine

from adapters.breakers import Breaker, State
from adapters.embedded.processes import free_port
from adapters.postgres.engine import create
from adapters.postgres.persistence import Persistently, postgresql_breaker
from domain.errors import Contended, InvalidPayload, Unavailable

OFTEN = 5


def resting_for_long() -> Breaker:
    """Build the breaker of PostgreSQL, which stays open for as long as a test may take."""
    breaker = postgresql_breaker()
    breaker._circuit.reset_timeout = 3_600
    return breaker


def fails(engine: Engine, code: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$")


class TestPersistently:
    def test_leaves_postgresql_alone_that_was_away_twice(self) -> None:
        nowhere = create(f"postgresql+psycopg://nobody@127.0.0.1:{free_port(preferred=None)}/none")
        persistently = Persistently(attempts=1, breaker=resting_for_long())
        tries: list[int] = []

        def ask() -> None:
            tries.append(1)
            nowhere.connect()

        for _ in range(OFTEN):
            with pytest.raises(Unavailable):
                persistently(ask)

        assert len(tries) == 2
        assert persistently.breaker.state is State.OPEN

    @pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
    def test_takes_contention_for_an_answer(self, engine: Engine, code: str) -> None:
        persistently = Persistently(attempts=2)
        for _ in range(OFTEN):
            with pytest.raises(Contended):
                persistently(lambda: fails(engine, code))

        assert persistently.breaker.state is State.CLOSED

    @pytest.mark.parametrize(
        "error", [InvalidPayload("no"), ValueError("a bug"), KeyboardInterrupt()]
    )
    def test_takes_a_refusal_and_a_bug_for_an_answer(self, error: BaseException) -> None:
        persistently = Persistently()

        def refuse() -> None:
            raise error

        for _ in range(OFTEN):
            with pytest.raises(type(error)):
                persistently(refuse)

        assert persistently.breaker.state is State.CLOSED

    def test_does_not_blame_postgresql_for_an_exhausted_pool(self, engine: Engine) -> None:
        persistently = Persistently(attempts=1)

        def wait_in_vain() -> None:
            raise sqlalchemy.exc.TimeoutError("QueuePool limit reached")

        for _ in range(OFTEN):
            with pytest.raises(Unavailable, match="no connection to PostgreSQL is free"):
                persistently(wait_in_vain)

        assert persistently.breaker.state is State.CLOSED

    @pytest.mark.parametrize("code", ["57P03", "53300", "25006", "53100"])
    def test_leaves_postgresql_alone_that_cannot_serve(self, engine: Engine, code: str) -> None:
        persistently = Persistently(attempts=1)
        for _ in range(OFTEN):
            with pytest.raises(Unavailable):
                persistently(lambda: fails(engine, code))

        assert persistently.breaker.state is State.OPEN
