"""The page with a language model that orders its lists, and without it when it dies: nothing else changes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from infra.settings import LlmSettings
from serving.up import Stack, start_stack
from tests.support.browser import IN_A_BROWSER, browser, opened, order, visit
from tests.support.llm_server import WHY, llm_process
from tests.support.tiny import article_number

__all__ = ["browser"]

pytestmark = IN_A_BROWSER

SHOE = article_number("shoe", 3)


@pytest.fixture(scope="module", autouse=True)  # before the browser, whose event loop would be in its way
def shop(live: Stack) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A second gateway on the same servers, all of whose lists a model reverses; and the model, to be killed."""
    with llm_process() as (url, model):
        # Nothing is kept, so that every answer needs the model.
        llm = LlmSettings(url=url, model="toy", rerank="always", cache_ttl_ms=1, wait_ms=2_500)
        http = live.settings.http.model_copy(update={"port": 0})
        settings = live.settings.model_copy(update={"llm": llm, "http": http})
        with start_stack(settings, processes=("api",)) as stack:
            yield str(stack.api_url), model


def test_the_shop_goes_on_when_the_model_dies(
    browser: Browser, live: Stack, shop: tuple[str, subprocess.Popen[str]]
) -> None:
    url, model = shop
    with opened(browser) as page:
        visit(page, str(live.api_url), "told-by-nobody")
        ranked = order(page)
        visit(page, url, "told-by-nobody")
        assert order(page) == ranked[::-1]
        expect(page.locator("#recommendations .why").first).to_have_text(WHY)
        expect(page.locator(".note")).to_have_count(0)
        page.locator("#recommendations .why").first.click()
        expect(page.locator("#drawer")).to_contain_text("by a language model")
        page.keyboard.press("Escape")

        model.kill()
        model.wait()
        visit(page, url, "told-by-nobody")
        assert order(page) == ranked
        fallen_back = re.compile(r"The language model .*\. The order is the ranker's own\.")
        expect(page.locator(".feed .note")).to_have_text(fallen_back)
        expect(page.locator("#recommendations .why", has_text=WHY)).to_have_count(0)
        page.locator(f'#recommendations .buy[data-article="{SHOE}"]').click()
        expect(page.locator("#status")).to_contain_text("Bought", timeout=15_000)
        expect(page.locator("#history li").first).to_have_attribute("data-key", re.compile(SHOE))
        expect(page.locator(".feed .note")).to_have_text(fallen_back)
        page.locator("#q").fill("shoe 3")
        page.locator("#q").press("Enter")
        expect(page.locator("#found .rec").first).to_have_attribute("data-article", SHOE, timeout=10_000)
