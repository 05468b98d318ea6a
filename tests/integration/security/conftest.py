"""A database with roles."""

from collections.abc import Iterator

import pytest

from adapters.embedded.servers import Addresses
from tests import roles


@pytest.fixture(scope="module")
def site(servers: Addresses, template: str) -> Iterator[roles.Site]:
    """Share a migrated database, with a login in each role, among a module's tests."""
    with roles.site(servers, template=template) as made:
        yield made
