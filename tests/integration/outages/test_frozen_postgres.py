"""PostgreSQL that holds still: who waits for its answer gives up."""

import pytest

from adapters.embedded.servers import EmbeddedServers
from adapters.postgres.engine import create
from adapters.postgres.persistence import is_outage
from adapters.postgres.watch import ServerWatch
from tests.conftest import wait_until
from tests.integration.outages.conftest import PATIENCE, frozen

STATEMENT_MS = 3_000
"""For each statement, those with which a connection begins too: a busy machine is not away."""


class TestAConnection:
    def test_is_given_up_when_no_answer_comes(self, own_servers: EmbeddedServers) -> None:
        engine = create(own_servers.start().database_url, statement_timeout_ms=STATEMENT_MS)
        with engine.connect() as connection, frozen(own_servers.postgres):
            with pytest.raises(Exception, match="did not answer within 8 seconds") as failure:
                connection.exec_driver_sql("SELECT 1")
            assert connection.invalidated

        assert is_outage(failure.value)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
        engine.dispose()

    def test_is_kept_when_a_statement_takes_too_long(self, own_servers: EmbeddedServers) -> None:
        engine = create(own_servers.start().database_url, statement_timeout_ms=STATEMENT_MS)
        with engine.connect() as connection:
            with pytest.raises(Exception, match="statement timeout") as failure:
                connection.exec_driver_sql("SELECT pg_sleep(60)")
            assert not connection.invalidated

        assert not is_outage(failure.value)
        engine.dispose()


class TestAWatch:
    def test_says_what_is_wrong_and_finds_out_when_it_is_over(
        self, own_servers: EmbeddedServers
    ) -> None:
        watch = ServerWatch(own_servers.start().database_url, application="watch")
        # A busy machine, too, may need longer for an answer than the watch waits.
        wait_until(lambda: "tallyman migrate upgrade" in str(watch.objection()), seconds=PATIENCE)
        with frozen(own_servers.postgres):
            assert "no answer within 2 seconds" in str(watch.objection())
            assert "PostgreSQL is away" in str(watch.objection())
        wait_until(lambda: "no tables" in str(watch.objection()), seconds=PATIENCE)
        watch.close()
