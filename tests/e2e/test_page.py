"""The page in a real browser: Buy is clicked and the list changes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from serving.up import Stack
from tests.support.tiny import article_number

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(params=[(1400, 900), (390, 844)], ids=["wide", "narrow"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
    assert problems == []


def test_buy_changes_the_list_within_a_second(page: Page, live: Stack) -> None:
    size = page.viewport_size
    assert size is not None
    customer = f"shopper-{size['width']}"
    page.goto(f"{live.api_url}?customer={customer}")
    expect(page.locator("#recommendations .rec").first).to_be_visible(timeout=30_000)
    shoe = article_number("shoe", 3)
    before = order(page)
    assert shoe in before
    expect(page.locator(".badge.cold")).to_be_visible()
    page.locator(f'.buy[data-article="{shoe}"]').click()
    expect(page.locator("#status")).to_have_class(re.compile(r"\bdone\b"), timeout=10_000)
    took_ms = float(page.locator("#status").get_attribute("data-took-ms") or "nan")
    after = order(page)
    assert after != before
    expect(page.locator(".badge.cold")).to_have_count(0)
    expect(page.locator("#history li").first).to_have_attribute("data-key", re.compile(shoe))
    assert took_ms < 1_000, f"click to change took {took_ms} ms"
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def order(page: Page) -> list[str | None]:
    return [rec.get_attribute("data-article") for rec in page.locator("#recommendations .rec").all()]
