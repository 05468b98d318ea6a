"""The page of a report in a real browser: on a phone and on a desktop, in light and in dark."""

import os
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import Engine

from domain.imports.runs import RowEnd
from tests.ended_jobs import NOON, attempt_failed, ended, failure, happened, imported, seconds
from tests.integration.command.conftest import Tallyman

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE, DESKTOP = 360, 1280
PATIENCE_MS = 120_000.0

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None and "CI" not in os.environ,
        reason="there is no Chromium: apt-get install chromium",
    ),
]

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
WINDOWS = list(product((PHONE, DESKTOP), SCHEMES))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "CI has to install Chromium"
    with sync_playwright() as playwright:
        # Tests run as root, for whom Chromium has no sandbox.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture
def report(engine: Engine, tallyman: Tallyman, tmp_path: Path) -> Path:
    """Give the page of a period in which everything happened, under long and hostile names."""
    long = "x" * 300
    for place in range(40):
        ended(engine, at=NOON + seconds(60 * place), waited=place, ran=0.1)
    dead = ended(
        engine,
        at=NOON,
        state="dead",
        job_id=f"<img src=x onerror=alert(1)>{long}"[:200],
        error=failure("Boom", "https://example.com/x.png"),
    )
    attempt_failed(engine, dead, at=NOON + seconds(9), attempt=5, error=failure("Boom", long))
    ended(engine, at=NOON, state="rejected", kind=long, error=failure("<script>", long))
    line = {"sku": f"<b>{long}", "requested": 9, "available": 0}
    happened(engine, "OutOfStock", {"lines": [line]}, at=NOON)
    imported(
        engine,
        "r",
        at=NOON,
        file_name=f"{long}.csv",
        state="running",
        ends={end.value: 9 for end in RowEnd},
        rows=99,
    )
    file = tmp_path / "report.html"
    ran = tallyman(
        "report", "--since", "2026-03-02T12:00", "--until", "2026-03-02T13:00", "--html", file
    )
    assert ran.code == 0, ran.err
    return file


def opened(browser: Browser, *, width: int, scheme: Scheme) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 740}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE_MS)
    return page


def notes(page: Page) -> tuple[list[str], list[str]]:
    """Return the lists of what the page will complain of, and of what it will ask for."""
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    return said, asked


class TestPage:
    def test_is_quiet_and_fits_in_every_window(self, browser: Browser, report: Path) -> None:
        for width, scheme in WINDOWS:
            page = opened(browser, width=width, scheme=scheme)
            said, asked = notes(page)
            page.goto(report.as_uri())
            for summary in page.locator("summary").all():
                summary.click()
            assert said == []
            assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
            # What is too wide scrolls in a frame of its own.
            assert page.evaluate("document.documentElement.scrollWidth") == width
            page.close()

    def test_shows_the_plots_that_are_drawn_for_the_window(
        self, browser: Browser, report: Path
    ) -> None:
        shown = set()
        for width, scheme in WINDOWS:
            page = opened(browser, width=width, scheme=scheme)
            page.goto(report.as_uri())
            images = page.locator("img")
            assert images.count() == 7
            for image in images.all():
                # Broken ones have no width; shrunk ones cannot be read.
                drawn = image.evaluate("each => [each.naturalWidth, each.clientWidth]")
                assert drawn[0] > 300
                assert drawn[1] >= 0.95 * drawn[0]
            shown.add(images.first.evaluate("each => each.currentSrc"))
            page.close()
        assert len(shown) == len(WINDOWS)

    def test_is_dark_where_that_is_wanted(self, browser: Browser, report: Path) -> None:
        colours = {}
        for scheme in SCHEMES:
            page = opened(browser, width=PHONE, scheme=scheme)
            page.goto(report.as_uri())
            colours[scheme] = page.evaluate(
                "(({backgroundColor, color}) => [backgroundColor, color])"
                "(getComputedStyle(document.body))"
            )
            page.close()
        assert colours["light"] == ["rgb(255, 255, 255)", "rgb(27, 31, 36)"]
        assert colours["dark"] == ["rgb(20, 24, 29)", "rgb(230, 233, 237)"]

    def test_tells_figures_to_those_who_do_not_see(self, browser: Browser, report: Path) -> None:
        page = opened(browser, width=DESKTOP, scheme="light")
        page.goto(report.as_uri())
        assert page.locator("html").get_attribute("lang") == "en"
        assert page.get_by_role("heading", level=1).count() == 1
        assert page.get_by_role("heading", level=2).count() == 8
        for image in page.get_by_role("img").all():
            assert (image.get_attribute("alt") or "").endswith(
                "The figures are in the table below."
            )
        page.locator("summary").first.click()
        page.get_by_role("columnheader", name="jobs per second").wait_for(state="visible")
        page.close()
