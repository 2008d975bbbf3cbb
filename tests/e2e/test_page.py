"""The page in a real browser: what is bought, seen, chosen and asked there, and how it is for those who see little."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from serving.up import Stack
from tests.support.browser import IN_A_BROWSER, NARROW, WIDE, browser, opened, order, serious, visit
from tests.support.tiny import article_number

__all__ = ["browser"]

pytestmark = IN_A_BROWSER

SIZES = {"wide": WIDE, "narrow": NARROW}
SHOE = article_number("shoe", 3)
TOP = article_number("top", 0)
KNOWN = ("ann", "bea", "cleo")


@pytest.fixture(scope="module", autouse=True)
def known(live: Stack) -> None:
    """Three customers with a history; with the last of them the worker is known to run."""
    for customer in KNOWN:
        for article in (SHOE, TOP):
            elsewhere(live, customer, article)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with urllib.request.urlopen(f"{live.api_url}v1/customers/{KNOWN[-1]}", timeout=10) as answer:
            if json.load(answer)["events"] == 2:
                return
        time.sleep(0.2)
    raise TimeoutError("the worker has not folded a purchase within 60 s")


@pytest.fixture(params=SIZES.values(), ids=SIZES)
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    with opened(browser, request.param) as page:
        yield page


@pytest.fixture
def wide(browser: Browser) -> Iterator[Page]:
    with opened(browser) as page:
        yield page


def elsewhere(live: Stack, customer: str, article: str) -> None:
    """A purchase that comes from another till."""
    body = json.dumps({"type": "purchase", "customer_id": customer, "article_id": article, "price": 9.5}).encode()
    request = urllib.request.Request(
        f"{live.api_url}v1/events", body, {"content-type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 202


def test_a_purchase_changes_the_list_and_the_meter_says_how_soon(page: Page, live: Stack) -> None:
    size = page.viewport_size
    assert size is not None
    visit(page, str(live.api_url), f"shopper-{size['width']}")
    before = order(page)
    assert SHOE in before
    expect(page.locator(".badge.cold")).to_be_visible()
    page.locator(f'#recommendations .buy[data-article="{SHOE}"]').click()
    expect(page.locator("#status")).to_have_class(re.compile(r"\bdone\b"), timeout=10_000)
    assert order(page) != before
    expect(page.locator(".badge.cold")).to_have_count(0)
    expect(page.locator("#history li").first).to_have_attribute("data-key", re.compile(SHOE))
    expect(page.locator("#ticker .is-feed").first).to_contain_text("Your purchase changed the list")
    # How soon is the machine's matter.
    took_ms = int(page.locator("#status").get_attribute("data-took-ms") or "")
    expect(page.locator(".fresh-ms")).to_have_text(f"{took_ms} ms")
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_a_look_opens_the_article_and_is_an_event(page: Page, live: Stack) -> None:
    size = page.viewport_size
    assert size is not None
    visit(page, str(live.api_url), f"looker-{size['width']}")
    page.locator(f'#recommendations .view[data-article="{SHOE}"]').click()
    drawer = page.locator("#drawer")
    expect(drawer.locator("h2")).to_have_text("Shoe 3")
    expect(drawer.locator(".strip li").first).to_be_visible()
    expect(page.locator("#history li").first).to_contain_text("viewed", timeout=10_000)
    expect(drawer.locator("#status")).to_contain_text("Seen", timeout=10_000)  # outside of it nothing is heard
    page.keyboard.press("Escape")
    expect(drawer).not_to_be_visible()
    # The list was drawn anew meanwhile; the keyboard is where it was.
    expect(page.locator(f'#view .view[data-article="{SHOE}"]').first).to_be_focused()
    expect(page.locator("body > #status")).to_have_count(1)


def test_a_purchase_is_shown_though_the_list_changes_meanwhile(wide: Page, live: Stack) -> None:
    """Another till sells to the same customer while the page waits for its own purchase to be known."""
    visit(wide, str(live.api_url), "busy")

    def meanwhile(route: Route) -> None:
        elsewhere(live, "busy", TOP)
        time.sleep(1.5)  # word of it comes first
        route.continue_()

    wide.route(re.compile(r"/fragments/customer\?.*knows="), meanwhile, times=1)
    wide.locator(f'#recommendations .buy[data-article="{SHOE}"]').click()
    expect(wide.locator("#status")).to_contain_text("Bought", timeout=10_000)
    expect(wide.locator("#history li")).to_have_count(2, timeout=10_000)


def test_the_ticker_can_be_paused(wide: Page, live: Stack) -> None:
    visit(wide, str(live.api_url), "reader")
    pause = wide.locator("#pause")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    elsewhere(live, "passer-by", TOP)
    elsewhere(live, "reader", SHOE)
    expect(wide.locator("#history li").first).to_have_attribute("data-key", re.compile(SHOE), timeout=10_000)
    expect(wide.locator("#ticker li", has_text="passer-by")).to_have_count(0)
    pause.click()
    expect(wide.locator("#ticker li", has_text="passer-by")).to_have_count(1, timeout=10_000)


def test_what_one_has_is_hidden(wide: Page, live: Stack) -> None:
    visit(wide, str(live.api_url), "bea")
    mine = wide.locator(f'#recommendations .rec[data-article="{SHOE}"]')
    expect(mine).to_have_count(1)
    wide.get_by_label("Hide what I have").check()
    expect(mine).to_have_count(0, timeout=10_000)
    assert "hide=yes" in wide.url
    wide.get_by_label("Hide what I have").uncheck()
    expect(mine).to_have_count(1, timeout=10_000)


def test_without_a_script_there_are_lists_customers_and_words(browser: Browser, live: Stack) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    try:
        page.goto(f"{live.api_url}?customer=ann")
        expect(page.locator("#recommendations .rec").first).to_be_visible()
        expect(page.locator(".buy").first).not_to_be_visible()
        page.locator("#q").fill("shoe 3")
        page.locator("#q").press("Enter")
        expect(page.locator("#found .rec").first).to_have_attribute("data-article", SHOE)
        page.locator("#choose").click()
        page.locator('.people a[data-customer="bea"]').click()
        expect(page.locator("h1")).to_contain_text("bea")
    finally:
        page.context.close()


def test_what_is_bought_in_the_drawer_is_bought(wide: Page, live: Stack) -> None:
    visit(wide, str(live.api_url), "drawer-buyer")
    wide.locator(f'#recommendations .view[data-article="{SHOE}"]').click()
    wide.locator("#drawer .article .buy").click()
    expect(wide.locator("#drawer")).not_to_be_visible()
    expect(wide.locator("#history li").first).to_contain_text("bought", timeout=10_000)


def test_the_list_says_why(page: Page, live: Stack) -> None:
    visit(page, str(live.api_url), "ann")
    why = page.locator("#recommendations .why").first
    why.click()
    drawer = page.locator("#drawer")
    expect(drawer.locator("h2")).to_contain_text("Why ")
    expect(drawer.locator(".sources li").first).to_be_visible()
    expect(drawer.locator(".stages", has_text="retrieval")).to_contain_text("candidates")
    drawer.locator(".close").click()
    expect(drawer).not_to_be_visible()
    expect(why).to_be_focused()


def test_two_strategies_stand_side_by_side(wide: Page, live: Stack) -> None:
    visit(wide, str(live.api_url), "ann")
    wide.locator('select[name="against"]').select_option("popular")
    expect(wide.locator(".beside .column")).to_have_count(2)
    expect(wide.locator(".both")).to_contain_text("are in both lists")
    assert "against=popular" in wide.url
    wide.go_back()
    expect(wide.locator(".beside")).to_have_count(0)


def test_another_customer_is_chosen(page: Page, live: Stack) -> None:
    visit(page, str(live.api_url), "ann")
    page.locator("#choose").click()
    page.locator('#people a[data-customer="bea"]').click(timeout=10_000)
    expect(page.locator("h1")).to_contain_text("bea")
    expect(page.locator("#chosen")).to_have_text("bea")
    page.locator("#choose").click()
    page.locator("#customer-id").fill("brand-new")
    page.locator("#customer-id").press("Enter")
    expect(page.locator("h1")).to_contain_text("brand-new")
    expect(page.locator(".badge.cold")).to_be_visible()


def test_somebody_new_gets_what_is_popular(wide: Page, live: Stack) -> None:
    visit(wide, str(live.api_url), "ann")
    wide.locator(".newcomer").click()
    expect(wide.locator("h1")).to_contain_text("guest-")
    expect(wide.locator(".badge.cold")).to_be_visible()
    wide.locator(".why").first.click()
    expect(wide.locator("#drawer .sources")).to_contain_text("Bestsellers")


def test_the_ticker_tells_what_others_do_and_the_list_follows(wide: Page, live: Stack) -> None:
    visit(wide, str(live.api_url), "watched")
    elsewhere(live, "somebody", TOP)
    expect(wide.locator("#ticker li", has_text="somebody").first).to_contain_text("bought Top 0", timeout=10_000)
    elsewhere(live, "watched", SHOE)
    expect(wide.locator("#ticker .is-feed").first).to_contain_text("elsewhere changed the list", timeout=10_000)
    expect(wide.locator("#history li").first).to_have_attribute("data-key", re.compile(SHOE))


def test_words_find_what_says_them(page: Page, live: Stack) -> None:
    visit(page, str(live.api_url), "ann")
    page.locator("#q").fill("shoe 3")
    page.locator("#q").press("Enter")
    expect(page.locator("#found h2")).to_have_text("“shoe 3”", timeout=10_000)
    expect(page.locator("#found .rec").first).to_have_attribute("data-article", SHOE)
    expect(page.locator("#found h2")).to_be_focused()
    page.locator("#found .why").first.click()
    expect(page.locator("#drawer .sources")).to_contain_text("Your search")
    page.keyboard.press("Escape")
    page.locator("#clear").click()
    expect(page.locator("#found")).not_to_be_visible()


def test_a_keyboard_is_enough(wide: Page, live: Stack) -> None:
    visit(wide, str(live.api_url), "keys")
    wide.keyboard.press("Tab")
    expect(wide.locator(".skip")).to_be_focused()
    wide.keyboard.press("Enter")
    button = wide.locator(f'#recommendations .buy[data-article="{SHOE}"]')
    button.focus()
    wide.keyboard.press("Enter")
    expect(wide.locator("#status")).to_have_class(re.compile(r"\bdone\b"), timeout=10_000)
    # The list was drawn anew; the keyboard is still on a button of it.
    assert wide.evaluate("document.activeElement.classList.contains('buy')")


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (WIDE, "dark"), (NARROW, "dark")])
def test_axe_finds_nothing_serious(browser: Browser, live: Stack, size: tuple[int, int], scheme: str) -> None:
    """The page, what opens on it, what is found, and two lists beside each other."""
    with opened(browser, size, scheme) as page:
        visit(page, str(live.api_url), "cleo")
        expect(page.locator("#similar .strip")).to_be_visible()
        found = serious(page, "page")
        page.locator("#recommendations .why").first.click()
        found += serious(page, "why")
        page.keyboard.press("Escape")
        page.locator("#recommendations .view").first.click()
        expect(page.locator("#drawer .strip")).to_be_visible()
        found += serious(page, "article")
        page.keyboard.press("Escape")
        page.locator("#choose").click()
        expect(page.locator("#people li").first).to_be_visible()
        found += serious(page, "people")
        page.keyboard.press("Escape")
        page.locator("#q").fill("shoe")
        page.locator("#q").press("Enter")
        expect(page.locator("#found .rec").first).to_be_visible(timeout=10_000)
        found += serious(page, "found")
        visit(page, str(live.api_url), "cleo", against="popular")
        found += serious(page, "beside")
        assert found == []
