"""Flower in a real browser, as an operator uses it."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Page,
    Request,
    expect,
    sync_playwright,
)

from domain.jobs.model import JobState
from tests.e2e.flower_site import NAME, PASSWORD, FlowerSite
from tests.e2e.pipeline import Pipeline, order
from tests.e2e.processes import eventually

CHROMIUM = shutil.which("chromium")
PATIENCE = 60_000
"""Milliseconds that a page may take on a busy machine."""
expect.set_options(timeout=PATIENCE)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ,
    reason="needs chromium on PATH: apt-get install --no-install-recommends chromium",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run Chromium while a module lasts."""
    assert CHROMIUM, "chromium is not on PATH"
    with sync_playwright() as playwright:
        # Its sandbox does not start for root.
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE
        )
        yield chromium
        chromium.close()


@dataclass(kw_only=True)
class Desk:
    """A browser's window on Flower, and what it asked the network for."""

    flower: FlowerSite
    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._note_request)
        self.page.on("console", self._note_complaint)

    def opens(self, path: str) -> None:
        answer = self.page.goto(self.flower.url + path)
        assert answer
        assert answer.status == 200

    def searches(self, words: str) -> None:
        self.opens("/tasks")
        self.page.get_by_placeholder("state:FAILURE").fill(words)

    def sees_row(self, *words: str) -> None:
        """Wait until the only row of the list holds these words."""
        rows = self.page.locator("#tasks-table tbody tr")
        expect(rows).to_have_count(1)
        for word in words:
            expect(rows.first).to_contain_text(word)

    def opens_task(self, job_id: str) -> None:
        self.page.get_by_role("link", name=job_id).click()
        expect(self.page.locator(".task-uuid-value code")).to_have_text(job_id)

    def _note_request(self, request: Request) -> None:
        if urlsplit(request.url).scheme != "data":
            self.asked.append(request.url)

    def _note_complaint(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


@pytest.fixture
def desk(browser: Browser, flower: FlowerSite) -> Iterator[Desk]:
    """Give a window, which must ask nobody but Flower for anything."""
    context = browser.new_context(
        http_credentials={"username": NAME, "password": PASSWORD},
        viewport={"width": 1600, "height": 900},
    )
    context.set_default_timeout(PATIENCE)
    desk = Desk(flower=flower, page=context.new_page())
    yield desk
    context.close()
    assert desk.asked
    assert [url for url in desk.asked if not url.startswith(flower.url)] == []
    assert desk.complaints == []


class TestFlowerInABrowser:
    def test_asks_for_the_password(self, browser: Browser, flower: FlowerSite) -> None:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
            page.goto(flower.url)
        page.close()

    def test_finds_a_job_by_its_id_and_shows_it_retried_until_it_succeeds(
        self, pipeline: Pipeline, desk: Desk
    ) -> None:
        job_id = "browser-retried"
        pipeline.has_stock("CHAIR", 10)
        pipeline.breaks(job_id)
        pipeline.by_submission(job_id, order(job_id, "CHAIR"))
        desk.flower.shows(job_id, "RETRY")
        desk.searches(job_id)
        desk.sees_row("RETRY", f"order {job_id}, 1 line", "is on fire")

        pipeline.mends(job_id)
        pipeline.operations.retry([job_id])
        desk.flower.shows(job_id, "SUCCESS")
        desk.searches(job_id)
        desk.sees_row("SUCCESS", f"order {job_id}, 1 line", "'state': 'allocated'")
        expect(desk.page.locator("#tasks-table tbody tr")).not_to_contain_text("is on fire")
        desk.opens_task(job_id)
        expect(desk.page.locator("#task-page")).not_to_contain_text("is on fire")

    def test_shows_a_refusal_with_its_reason(self, pipeline: Pipeline, desk: Desk) -> None:
        pipeline.has_stock("DESK", 10)
        pipeline.by_message("browser-refused", order("browser-refused", "DESK", quantity=11))
        desk.flower.shows("browser-refused", "FAILURE")
        desk.searches("browser-refused state:FAILURE")
        desk.sees_row("FAILURE", "OutOfStock", "wants 11 of DESK, 10 available")
        desk.opens_task("browser-refused")
        expect(desk.page.locator("#task-page")).to_contain_text("wants 11 of DESK, 10 available")

    def test_withdraws_a_job_in_the_ledger(self, pipeline: Pipeline, desk: Desk) -> None:
        job_id = "browser-withdrawn"
        pipeline.has_stock("SHELF", 10)
        pipeline.breaks(job_id)
        pipeline.by_submission(job_id, order(job_id, "SHELF"))
        desk.flower.shows(job_id, "RETRY")
        # The page of a job may be the first that a browser is shown, and has the password for.
        desk.opens(f"/task/{job_id}")
        desk.page.get_by_role("button", name="Revoke").click()
        expect(desk.page.locator("#toast-container")).to_contain_text(f"Cancelled '{job_id}'")
        pipeline.until(job_id, JobState.CANCELLED)

    def test_shows_queues_and_workers_without_their_passwords(
        self, desk: Desk, database_url: str, broker_url: str
    ) -> None:
        desk.opens("/broker")
        for queue in ("allocation", "imports", "maintenance", "users"):
            expect(desk.page.locator("#queue-table")).to_contain_text(queue)

        worker = desk.flower.only_worker()
        # What is not answered within a second is not there, and the page does not ask again.
        eventually(
            lambda: "result_backend" in desk.flower.get(f"/worker/{worker}").text,
            what="Flower knows how the worker is configured",
        )
        desk.opens("/workers")
        row = desk.page.locator("#workers-table tbody tr")
        expect(row).to_contain_text("Online")
        row.get_by_role("link", name=worker).click()
        desk.page.locator("#worker-tab-config").click()
        expect(desk.page.locator("#tab-config")).to_contain_text("result_backend")
        for url in (database_url, broker_url):
            password = urlsplit(url).password
            assert password
            expect(desk.page.locator("body")).not_to_contain_text(password)
