"""What a process answers over HTTP, and to how many."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.conftest import wait_until
from tests.scraping import get, health, scrape, value
from worker import monitoring
from worker.monitoring import MOST_CALLERS, Standing, monitored
from worker.settings import Settings, SettingsError


@dataclass
class Subject:
    """A process that is as told."""

    port: int = 0
    standing: Standing = field(default_factory=lambda: Standing(detail="at work", is_ready=True))

    def stand(self) -> Standing:
        return self.standing


@pytest.fixture
def subject() -> Iterator[Subject]:
    subject = Subject()
    with monitored(Settings(health_port=0), process="relay", stand=subject.stand) as port:
        assert port is not None
        subject.port = port
        yield subject


class TestHealth:
    def test_tells_who_is_live_and_ready(self, subject: Subject) -> None:
        assert health(subject.port, "live")[0] == 200
        assert health(subject.port, "ready")[0] == 200

    def test_tells_who_is_live_and_not_ready_and_why(self, subject: Subject) -> None:
        subject.standing = Standing(detail="PostgreSQL is away", is_ready=False)
        assert health(subject.port, "live")[0] == 200
        status, told = health(subject.port, "ready")
        assert (status, told["detail"]) == (503, "PostgreSQL is away")

    def test_tells_who_is_to_be_started_again(self, subject: Subject) -> None:
        subject.standing = Standing(detail="it hangs", is_ready=False, is_live=False)
        assert health(subject.port, "live")[0] == 503

    def test_answers_probes_that_want_no_body(self, subject: Subject) -> None:
        assert get(subject.port, "/health/live", method="HEAD") == (200, "")

    def test_names_what_there_is(self, subject: Subject) -> None:
        status, body = get(subject.port, "/")
        assert status == 404
        assert "/health/ready" in body


class TestMetrics:
    def test_tell_what_runs_and_how_it_is(self, subject: Subject) -> None:
        found = scrape(subject.port)
        assert value(found, "tallyman_ready", process="relay") == 1
        assert value(found, "tallyman_live", process="relay") == 1
        assert any(name == "tallyman_build_info" for name, _ in found)
        assert ("process_resident_memory_bytes", frozenset()) in found


class TestMonitoring:
    def test_is_off_unless_it_is_asked_for(self) -> None:
        with monitored(Settings(), process="relay", stand=Subject().stand) as port:
            assert port is None

    def test_says_that_its_port_is_taken(self, subject: Subject) -> None:
        settings = Settings(health_port=subject.port)
        with (
            pytest.raises(SettingsError, match="TALLYMAN_HEALTH_PORT: cannot listen on"),
            monitored(settings, process="beat", stand=subject.stand),
        ):
            pass

    def test_gives_its_port_back(self, subject: Subject) -> None:
        with monitored(Settings(health_port=0), process="relay", stand=subject.stand) as port:
            pass
        with monitored(Settings(health_port=port), process="relay", stand=subject.stand) as again:
            assert again == port

    def test_is_not_held_up_by_callers_who_say_nothing(
        self, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Nobody is sent away for his silence before all have come.
        monkeypatch.setattr(monitoring._Handler, "timeout", 600)
        silent = [
            socket.create_connection(("127.0.0.1", subject.port)) for _ in range(MOST_CALLERS - 1)
        ]
        assert health(subject.port, "live")[0] == 200
        silent += [socket.create_connection(("127.0.0.1", subject.port)) for _ in range(9)]
        # All places are taken now: who is turned away knows at once.
        wait_until(lambda: get(subject.port, "/health/live")[0] == 0)
        for caller in silent:
            caller.close()
        wait_until(lambda: health(subject.port, "live")[0] == 200)

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_leaves_its_port_to_none_of_its_children(self) -> None:
        subject = Subject()
        read_end, write_end = os.pipe()
        with monitored(Settings(health_port=0), process="worker", stand=subject.stand) as port:
            child = os.fork()
            if child == 0:
                os.close(write_end)
                os.read(read_end, 1)
                os._exit(0)
        try:
            # The child still runs, as one whose parent was killed.
            with monitored(Settings(health_port=port), process="worker", stand=subject.stand):
                assert health(port or 0, "live")[0] == 200
        finally:
            os.write(write_end, b".")
            os.waitpid(child, 0)
            os.close(read_end)
            os.close(write_end)
