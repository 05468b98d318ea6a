"""Ports for processes that are yet to listen."""

import socket
from collections.abc import Iterator

import pytest

from adapters.embedded.processes import HeldPorts, free_port


@pytest.fixture
def ours() -> Iterator[HeldPorts]:
    ports = HeldPorts()
    yield ports
    ports.release()


@pytest.fixture
def theirs() -> Iterator[HeldPorts]:
    ports = HeldPorts()
    yield ports
    ports.release()


class TestHeldPorts:
    def test_are_of_one_holder_though_nobody_listens_yet(
        self, ours: HeldPorts, theirs: HeldPorts
    ) -> None:
        wanted = free_port(preferred=None)

        assert ours.hold(preferred=wanted) == wanted
        assert theirs.hold(preferred=wanted) != wanted
        assert ours.hold(preferred=wanted) != wanted

    def test_can_be_listened_at(self, ours: HeldPorts) -> None:
        port = ours.hold(preferred=None)
        with socket.create_server(("127.0.0.1", port)):
            pass

    def test_are_not_those_where_somebody_listens(self, ours: HeldPorts) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            taken = server.getsockname()[1]
            assert ours.hold(preferred=taken) != taken

    def test_are_for_others_once_released(self, ours: HeldPorts, theirs: HeldPorts) -> None:
        port = ours.hold(preferred=None)
        ours.release()
        assert theirs.hold(preferred=port) == port
