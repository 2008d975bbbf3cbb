"""A photo in a real browser: dropped on the page or chosen, and what the shop makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from infra.bundle import Bundle
from infra.settings import PageSettings
from serving.golden import open_runtime
from serving.image_encoder import VECTORS
from tests.support.browser import IN_A_BROWSER, NARROW, WIDE, browser, opened, order, serious, visit
from tests.support.http_shop import HttpShop
from tests.support.remade import remade
from tests.support.seen import photo, seen
from tests.support.tiny import article_number
from tests.support.tiny_fixture import Tiny

__all__ = ["browser"]

pytestmark = IN_A_BROWSER

GARMENTS = Path(__file__).parents[3] / "shared" / "data" / "garments-cc0"
KINDS = {"top": "t-shirt", "shoe": "shoes", "hat": "hat"}  # of the tiny shop, and of the photos
RED, GREEN, BLUE = (220, 30, 30), (30, 220, 30), (30, 30, 220)
PAINTED = {"top": GREEN, "shoe": RED, "hat": BLUE}


def kind_of(article_id: str | None) -> str:
    """Of an article of the tiny shop."""
    (kind,) = (kind for kind in KINDS if article_id and article_id[:2] == article_number(kind, 0)[:2])
    return kind


@pytest.fixture(scope="module")
def shop(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Tops have green photos, shoes red ones, the hat a blue one."""
    directory = tmp_path_factory.mktemp("painted")
    colours = {name: PAINTED[kind_of(name)] for name in tiny.runtime.items.article_ids}
    (directory / "pictures").mkdir()
    for name, colour in colours.items():
        (directory / "pictures" / f"{name}.jpg").write_bytes(photo(colour, "JPEG", (32, 48)))
    with served(seen(tiny.bundle, directory, list(colours.values())), directory / "pictures") as url:
        yield url


def served(bundle: Bundle, pictures: Path) -> AbstractContextManager[str]:
    """The shop of `bundle` listening inside `with`, which gives its URL."""
    # On a thread of its own: this one's event loop is the browser's.
    with ThreadPoolExecutor(1) as aside:
        shop = aside.submit(lambda: HttpShop.of(open_runtime(bundle))).result()
    return shop.serving(page=PageSettings(pictures=pictures))


def drop(page: Page, file: Path) -> None:
    """As a hand does it: the file is dragged over the window and let go."""
    line = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        line.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 400, "data": data})
    expect(page.locator("#drop")).to_be_visible()
    line.send("Input.dispatchDragEvent", {"type": "drop", "x": 300, "y": 400, "data": data})


def test_a_photo_that_is_dropped_finds_what_looks_like_it(browser: Browser, shop: str, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(photo(RED))
    with opened(browser) as page:
        visit(page, f"{shop}/", "anna")
        drop(page, tmp_path / "red.png")
        expect(page.locator("#found h2")).to_have_text("Like your photo", timeout=20_000)
        expect(page.locator("#drop")).not_to_be_visible()
        assert {kind_of(name) for name in order(page, "#found")} == {"shoe"}
        expect(page.locator("#found .yours")).to_have_js_property("naturalWidth", 24)
        page.locator("#found .why").first.click()
        expect(page.locator("#drawer .sources")).to_contain_text("Your photo")


def test_a_photo_that_is_chosen_and_then_another(browser: Browser, shop: str) -> None:
    with opened(browser, NARROW) as page:
        visit(page, f"{shop}/", "anna")
        for colour, kind in ((GREEN, "top"), (BLUE, "hat")):
            page.locator("#photo").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": photo(colour)})
            expect(page.locator("#found .rec").first).to_have_attribute(
                "data-article", article_number(kind, 0)[:2] + "0" * 8, timeout=20_000
            )
            assert {kind_of(name) for name in order(page, "#found")} == {kind}
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


def test_what_is_no_photo_is_refused_in_words(browser: Browser, shop: str) -> None:
    page = browser.new_page()
    try:
        visit(page, f"{shop}/", "anna")
        page.locator("#photo").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": photo(RED)[:60]})
        expect(page.locator("#alert")).to_contain_text("The search failed: ", timeout=20_000)
        expect(page.locator("#recommendations .rec").first).to_be_visible()
    finally:
        page.close()


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_axe_finds_nothing_serious(browser: Browser, shop: str, size: tuple[int, int], scheme: str) -> None:
    with opened(browser, size, scheme) as page:
        visit(page, f"{shop}/", "anna")
        page.locator("#photo").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": photo(RED)})
        expect(page.locator("#found .rec").first).to_be_visible(timeout=20_000)
        assert serious(page, "photo") == []


@pytest.mark.skipif(not GARMENTS.is_dir(), reason="no photos of garments in ../shared/data/garments-cc0")
def test_a_photo_of_shoes_finds_shoes(browser: Browser, tiny: Tiny, tmp_path: Path) -> None:
    """By the network that looks at photos in a real shop, which has never seen any of these."""
    pytest.importorskip("timm", reason="the extra content is not installed")
    from offline.content.efficientnet import open_efficientnet
    from offline.content.pairs import load_garments
    from offline.search_files import write_pictures

    known, asked = load_garments(GARMENTS, "train"), load_garments(GARMENTS, "test")
    left = {
        kind: [f for f, n in zip(known.files, known.labels, strict=True) if known.names[n] == label]
        for kind, label in KINDS.items()
    }
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    files = []
    for name in tiny.runtime.items.article_ids:
        files.append(left[kind_of(name)].pop())
        (pictures / f"{name}.jpg").write_bytes(files[-1])
    encoder = open_efficientnet()
    vectors = encoder.encode_image(files)
    bundle = remade(tiny.bundle, tmp_path, lambda copy: write_pictures(copy, vectors, encoder, 12))
    assert np.load(bundle.file(VECTORS)).shape == (13, 12)
    shoe = next(f for f, n in zip(asked.files, asked.labels, strict=True) if asked.names[n] == KINDS["shoe"])
    (tmp_path / "shoe.jpg").write_bytes(shoe)
    with served(bundle, pictures) as url, opened(browser) as page:
        visit(page, f"{url}/", "anna")
        drop(page, tmp_path / "shoe.jpg")
        expect(page.locator("#found .rec").first).to_be_visible(timeout=30_000)
        found = [kind_of(name) for name in order(page, "#found")]
        assert found[:3] == ["shoe"] * 3
