"""Debian's Chromium for the tests of the page, and what they all do with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

IN_A_BROWSER = [
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
WIDE, NARROW = (1440, 900), (390, 844)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each module, no longer: while it is open, no other event loop can run."""
    with chromium() as browser:
        yield browser


@contextmanager
def opened(browser: Browser, size: tuple[int, int] = WIDE, scheme: str = "light") -> Iterator[Page]:
    """A page that does not move; whatever it reports as an error fails its test."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    try:
        yield page
    finally:
        page.close()
    assert problems == []


def visit(page: Page, url: str, customer: str, **asked: str) -> None:
    """The page of a customer, drawn and following the shop."""
    page.goto(f"{url}?customer={customer}" + "".join(f"&{name}={value}" for name, value in asked.items()))
    expect(page.locator("#recommendations .rec").first).to_be_visible(timeout=30_000)
    expect(page.locator("#line")).to_have_text("live", timeout=20_000)


def order(page: Page, place: str = "#recommendations") -> list[str | None]:
    """The articles of a list, best first."""
    return [rec.get_attribute("data-article") for rec in page.locator(f"{place} .rec").all()]


def serious(page: Page, at: str) -> list[str]:
    """What axe finds that keeps people out, with where the page was."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    return [
        f"{at}: {found['id']} {found['help']} {[node['target'] for node in found['nodes']][:3]}"
        for found in axe.Axe().run(page).response["violations"]
        if found["impact"] in ("serious", "critical")
    ]
