"""An article as it is now, and what is like it: in the tiny shop, of tops and shoes and a hat that nobody bought."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from infra.clock import ManualClock
from serving.articles import MEASURES, details, similar
from serving.messages import Rules
from serving.pipeline import Pipeline
from serving.reload import Loaded
from serving.rules import ShopRules
from serving.shelf import Shelf
from tests.serving.toy_shop import NOON
from tests.support.http_shop import HttpShop
from tests.support.tiny import article_number, product_number
from tests.support.tiny_fixture import Tiny

TOP, VARIANT, HAT = article_number("top", 0), article_number("top", 1), article_number("hat", 0)


@pytest.fixture
def loaded(tiny: Tiny) -> Loaded:
    return HttpShop.of(tiny.runtime).source.current


def kinds(found: object) -> list[str]:
    return [["top", "shoe", "hat"][int(item.article_id[1]) - 1] for item in found.items]  # type: ignore[attr-defined]


def test_details_are_attributes_live_price_and_stock_and_variants(loaded: Loaded) -> None:
    shown = details(loaded, TOP)
    assert shown is not None
    assert (shown["title"], shown["colour"], shown["available"]) == ("Top 0", "White", True)
    assert (shown["product_code"], shown["variants"]) == (product_number("top", 0), [VARIANT])
    assert loaded.shelf is not None
    row = loaded.runtime.items.index[TOP]
    loaded.shelf.available[row], loaded.shelf.prices[row] = False, 3.0
    later = details(loaded, TOP)
    assert later is not None and (later["available"], later["price"]) == (False, 3.0)
    assert details(loaded, "nothing") is None


@pytest.mark.parametrize("by", MEASURES)
def test_tops_are_like_tops(loaded: Loaded, by: str) -> None:
    found = similar(loaded, TOP, by, 3)
    assert found is not None and found.by == by
    assert kinds(found) == ["top"] * 3
    assert TOP not in {item.article_id for item in found.items}
    scores = [item.score for item in found.items]
    assert scores == sorted(scores, reverse=True) and [item.rank for item in found.items] == [1, 2, 3]


def test_nobody_bought_the_hat_so_nothing_goes_with_it(loaded: Loaded) -> None:
    found = similar(loaded, HAT, "covisitation", 3)
    assert found is not None and found.items == []
    assert similar(loaded, "nothing", "covisitation", 3) is None


def test_what_cannot_be_had_and_unwanted_variants_are_left_out(loaded: Loaded) -> None:
    def of(variants: bool) -> set[str]:
        found = similar(loaded, TOP, "content", 12, variants=variants)
        assert found is not None
        return {item.article_id for item in found.items}

    assert VARIANT in of(True) and VARIANT not in of(False)
    assert loaded.shelf is not None
    gone = article_number("top", 4)
    assert gone in of(True)
    loaded.shelf.available[loaded.runtime.items.index[gone]] = False
    assert gone not in of(True)


def test_the_nearest_are_those_of_an_exact_search(loaded: Loaded) -> None:
    catalog = loaded.runtime.catalog
    row = catalog.items.index[TOP]
    cosines = catalog.content @ catalog.content[row]
    best = max(other for other in np.delete(cosines, row))
    found = similar(loaded, TOP, "content", 1)
    assert found is not None and found.items[0].score == pytest.approx(best)


def test_without_a_shelf_all_can_be_had(tiny: Tiny, loaded: Loaded) -> None:
    bare = Loaded(loaded.bundle_id, loaded.runtime, loaded.pipeline)
    found, shelved = similar(bare, TOP, "content", 5), similar(loaded, TOP, "content", 5)
    assert found == shelved
    assert Shelf.of(tiny.runtime.items).available.all()


def test_blocked_and_capped_articles_are_like_nothing_that_is_shown(tiny: Tiny, loaded: Loaded) -> None:
    def of(shop: ShopRules) -> list[str]:
        pipeline = Pipeline(tiny.runtime, ManualClock(NOON), shop=shop)
        found = similar(Loaded(loaded.bundle_id, tiny.runtime, pipeline), TOP, "content", 12)
        assert found is not None
        return [item.article_id for item in found.items]

    everything = of(ShopRules())
    product = product_number("top", 4)
    blocked = of(ShopRules(rules=Rules(blocked={"product_code": [product]})))
    items = tiny.runtime.items
    of_product = [a for a in everything if items.product_codes[items.products[items.index[a]]] == product]
    assert of_product and not set(of_product) & set(blocked)
    capped = of(ShopRules(rules=Rules(max_per_product=1)))
    products = [int(items.products[items.index[article]]) for article in capped]
    assert len(products) == len(set(products)) > 1


def test_what_the_shop_pins_is_not_like_everything(tiny: Tiny, loaded: Loaded) -> None:
    """A pin stands first in a list of recommendations; here it is asked what is like a top."""
    plain = similar(loaded, TOP, "content", 12)
    assert plain is not None
    shop = ShopRules(rules=Rules(pins=[plain.items[-1].article_id]))
    pinned = Loaded(loaded.bundle_id, tiny.runtime, Pipeline(tiny.runtime, ManualClock(NOON), shop=shop))
    assert similar(pinned, TOP, "content", 12) == plain


def test_rules_that_leave_few_of_the_nearest_are_looked_for_further_down(
    tiny: Tiny, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is allowed is the least alike of all."""
    everything = similar(loaded, TOP, "blend", 200)
    assert everything is not None
    last = everything.items[-1].article_id
    others = [a for a in tiny.runtime.items.article_ids if a != last]
    pipeline = Pipeline(tiny.runtime, ManualClock(NOON), shop=ShopRules(rules=Rules(blocked={"article_id": others})))
    monkeypatch.setattr("serving.articles.DEPTH", 1)
    found = similar(Loaded(loaded.bundle_id, tiny.runtime, pipeline), TOP, "blend", 1)
    assert found is not None and [item.article_id for item in found.items] == [last]


def test_one_of_each_title_where_titles_do_not_count(tiny: Tiny, loaded: Loaded) -> None:
    items = tiny.runtime.items
    titles = ["Top 1" if title.startswith("Top") else title for title in items.titles]
    content = np.zeros_like(tiny.runtime.catalog.content)
    content[:, 0] = 1  # all look and read the same
    catalog = replace(tiny.runtime.catalog, items=replace(items, titles=titles), content=content)
    runtime = replace(tiny.runtime, catalog=catalog)
    renamed = Loaded(loaded.bundle_id, runtime, Pipeline(runtime, ManualClock(NOON)))

    def tops(article: str, titles_count: bool) -> int:
        found = similar(renamed, article, "blend", 50, titles=titles_count)
        assert found is not None
        return kinds(found).count("top")

    shoe = article_number("shoe", 0)
    assert tops(shoe, True) > 1
    assert tops(shoe, False) == 1
    assert tops(TOP, False) == 0  # it is itself one of that title
