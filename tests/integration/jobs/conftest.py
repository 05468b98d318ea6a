"""Databases on which who waits for a lock may wait for this machine."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from adapters.postgres.engine import create


@pytest.fixture
def patient(database_url: str) -> Iterator[Engine]:
    """Give an engine by which a lock is waited for, however long who holds it needs."""
    engine = create(database_url, pool_size=16, lock_timeout_ms=60_000)
    yield engine
    engine.dispose()
