"""A database on which jobs stand still where they are told to, and others wait for them."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from adapters.postgres.engine import create
from tests.integration.allocation.actors import SECONDS


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Give an engine by which a lock is waited for as long as an actor is.

    Who holds one may have to wait for this machine: that is no contention of the jobs'.
    """
    engine = create(database_url, pool_size=64, lock_timeout_ms=int(1_000 * SECONDS))
    yield engine
    engine.dispose()
