"""Who may do what by way of Flower, where it is shown, and what it remembers."""

import re
import signal
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from celery import Celery
from flower.api import control, tasks
from flower.urls import handlers

from tests.e2e.flower_site import NAME, PASSWORD, FlowerSite
from tests.e2e.processes import eventually
from tests.integration.processes.conftest import Installation, Running

OPEN = {r"/healthcheck", r"/static/(.*)", r"/login/?", r"/logout", r".*"}
"""Places without anything of a job or a worker."""
NOBODY = 1
"""Port at which nobody listens, which no other test is given meanwhile."""


def _places(*, method: str, modules: tuple[str, ...] | None = None) -> Iterator[str]:
    """Yield a place for each of Flower's handlers that answers to this method."""
    for handler in handlers:
        pattern, cls = (
            (handler.regex.pattern.rstrip("$"), handler.handler_class)
            if hasattr(handler, "regex")
            else handler[:2]
        )
        if pattern not in OPEN and method in vars(cls) and modules in {None, (cls.__module__,)}:
            yield re.sub(r"\(\.[+*]\)", "anything", pattern)


READABLE = list(_places(method="get"))
CHANGING = [
    place
    for module in (control, tasks)
    for place in _places(method="post", modules=(module.__name__,))
]


def site(flower: Running) -> FlowerSite:
    flower.wait_for("flower_started")
    return FlowerSite(logs=lambda: flower.complaints)


@pytest.fixture
def guarded(connected: Installation) -> Installation:
    """Give an installation whose Flower has a password."""
    connected.variables = {
        **connected.variables,
        "TALLYMAN_FLOWER_BASIC_AUTH": f"{NAME}:{PASSWORD}",
    }
    return connected


def heard(broker_url: str, job_id: str) -> None:
    """Tell whoever listens that a worker has received a job."""
    with Celery(broker=broker_url, set_as_current=False) as app, app.connection() as connection:
        dispatcher = app.events.Dispatcher(connection, hostname="a worker")
        dispatcher.send("task-received", uuid=job_id, name="allocation.allocate_order")


class TestFlower:
    def test_answers_nobody_without_the_password(self, guarded: Installation) -> None:
        assert len(READABLE) >= 14
        assert len(CHANGING) >= 14
        flower = site(guarded.start("flower"))
        for password in (None, "", "wrong", PASSWORD + "x", "pässword"):
            for place in READABLE:
                assert flower.get(place, password=password).status == 401, place
            for place in CHANGING:
                assert flower.post(place, {}, password=password).status == 401, place
        assert flower.get("/workers").status == 200
        assert flower.get("/healthcheck", password=None).text == "OK"
        assert flower.get("/metrics").status == 200
        assert "Traceback" not in flower.logs()

    def test_does_nothing_that_another_site_asks_for(self, guarded: Installation) -> None:
        flower = site(guarded.start("flower"))
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}):
            for place in CHANGING:
                refused = flower.post(place, {}, headers=headers)
                assert (refused.status, refused.text.startswith("Cross-")) == (403, True), place

    def test_only_shows_where_it_is_told_to_below_a_prefix(self, guarded: Installation) -> None:
        guarded.variables = {
            **guarded.variables,
            "TALLYMAN_FLOWER_READ_ONLY": "true",
            "TALLYMAN_FLOWER_URL_PREFIX": "/jobs/flower/",
            "TALLYMAN_FLOWER_BEHIND_PROXY": "true",
        }
        flower = site(guarded.start("flower"))
        assert flower.url.endswith("/jobs/flower")
        for place in CHANGING:
            refused = flower.post(place, {"kwargs": {}})
            assert (refused.status, refused.text) == (403, "Read only mode is enabled"), place
        [style] = re.findall(r'href="(\S+flower\.css\S*)"', flower.get("/workers").text)
        above = FlowerSite(logs=lambda: flower.logs().replace("/jobs/flower", ""))
        assert style.startswith("/jobs/flower/static/")
        assert above.get(style, password=None).status == 200
        assert above.get("/workers").status == 404
        assert flower.get("/metrics", password=None).status == 401

    def test_is_asked_how_it_is_below_its_prefix(self, guarded: Installation) -> None:
        above = guarded.variables
        below = {**above, "TALLYMAN_FLOWER_URL_PREFIX": "jobs"}
        guarded.variables = {**below, "TALLYMAN_FLOWER_PORT": str(NOBODY)}
        assert guarded.run("health", "flower").returncode == 1
        guarded.variables = below
        flower = site(guarded.start("flower"))
        port = {"TALLYMAN_FLOWER_PORT": str(urlsplit(flower.url).port)}
        guarded.variables = {**below, **port}
        assert guarded.run_until_well("flower").stdout == "flower  well: answers\n"
        guarded.variables = {**above, **port}
        assert guarded.run("health", "flower").returncode == 1

    @pytest.mark.parametrize("unauthenticated", ["false", "true"])
    def test_only_shows_where_it_has_no_password(
        self, connected: Installation, unauthenticated: str
    ) -> None:
        connected.variables = {
            **connected.variables,
            "FLOWER_UNAUTHENTICATED_API": unauthenticated,
        }
        flower = site(connected.start("flower"))
        assert flower.get("/workers", password=None).status == 200
        refusal = 403 if unauthenticated == "true" else 401
        for place in CHANGING:
            assert flower.post(place, {}, password=None).status == refusal, place

    def test_remembers_what_it_has_seen(self, guarded: Installation, broker_url: str) -> None:
        running = guarded.start("flower")
        flower = site(running)

        def sees() -> object:
            heard(broker_url, "seen")
            return flower.task("seen")

        eventually(sees, what="Flower sees a job")
        running.process.send_signal(signal.SIGTERM)
        assert running.ends() == 0

        again = guarded.start("flower")
        assert (site(again).task("seen") or {})["state"] == "RECEIVED"
        again.process.send_signal(signal.SIGTERM)
        assert again.ends() == 0
        folder = guarded.data_folder / "flower"
        assert folder.stat().st_mode & 0o077 == 0
        for file in folder.iterdir():
            file.write_bytes(b"spoiled")
        assert site(guarded.start("flower")).task("seen") is None

    @pytest.mark.parametrize("away", ["TALLYMAN_DATABASE_URL", "TALLYMAN_BROKER_URL"])
    def test_says_what_is_away(self, guarded: Installation, away: str) -> None:
        url = urlsplit(guarded.variables[away])
        guarded.variables = {
            **guarded.variables,
            away: url._replace(netloc=f"{url.username or ''}:x@127.0.0.1:{NOBODY}").geturl(),
        }
        flower = site(guarded.start("flower"))
        order = {"task_id": "a", "kwargs": {"order_id": "a"}}
        place = "/api/task/async-apply/allocation.cancel_order"
        asked = (
            [flower.get("/api/task/result/a"), flower.post("/api/task/revoke/a")]
            if away == "TALLYMAN_DATABASE_URL"
            else [flower.post(place, order)]
        )
        for answer in asked:
            assert (answer.status, "unavailable" in answer.text) == (503, True), answer
        assert flower.get("/workers").status == 200
        assert "Traceback" not in flower.logs()
