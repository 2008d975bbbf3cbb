"""The transfer benchmark trains on nothing that it holds out, and finds a tower's way into another shop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from offline.bench_transfer import TransferData, train_on_known, transfer_data
from offline.bench_transfer_score import K, measure
from offline.content.vectors import ContentConfig, content_vectors
from offline.event_log import import_data
from offline.histories import load_histories
from offline.train_retrieval import TowerConfig
from offline.world.files import write_world
from offline.world.settings import WorldSize
from serving.items import ItemTable

CONFIG = TowerConfig(examples=2_500, epochs=4, batch=64, negatives=64, dim=16, learning_rate=5e-3)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TransferData:
    """Two synthetic shops of different customers and articles that speak one language."""
    directory = tmp_path_factory.mktemp("shops")
    write_world(WorldSize(customers=1_200, articles=700, days=90, seed=1), directory / "hm", oracle_customers=1)
    write_world(WorldSize(customers=600, articles=500, days=60, seed=2), directory / "synthetic", oracle_customers=1)
    log = import_data("hm+synthetic", directory, directory / "log")
    articles = log.articles()
    content = content_vectors(articles, None, ContentConfig(text="words", dim=32), directory / "cache")
    products = articles["product_code"].to_pylist()
    return transfer_data(ItemTable.from_table(articles), products, content, load_histories(log), "synthetic", seed=1)


def test_shops_are_aligned_and_a_fifth_is_held_out(data: TransferData) -> None:
    assert data.shops == ("hm", "synthetic")
    assert data.horizon == (7, 7)
    days = data.histories.occurred_at / 86_400e6
    for shop, length in ((0, 90), (1, 60)):
        mine = days[data.shop_of_customer[data.histories.customer_rows] == shop]
        assert 0 < mine.max() <= 7
        assert -length + 7 <= mine.min() < -length + 10
    for new, of in ((data.new_item, data.shop_of_item), (data.new_customer, data.shop_of_customer)):
        assert new[of == 1].all()
        assert 0.12 < new[of == 0].mean() < 0.28
    ids = np.array(data.items.article_ids)
    codes = np.array([name.removesuffix(name[-3:]) for name in ids.tolist()])
    for code in np.unique(codes[data.shop_of_item == 0]):
        assert len(set(data.new_item[codes == code].tolist())) == 1  # colour variants stay together


@pytest.mark.slow
def test_what_is_held_out_changes_nothing_in_the_training(data: TransferData) -> None:
    config = replace(CONFIG, epochs=1, examples=300)
    histories = data.histories
    hidden = (
        data.new_customer[histories.customer_rows] | data.new_item[data.item_of_event] | (histories.occurred_at >= 0)
    )
    assert 0.3 < hidden.mean() < 0.95
    # Hidden customers and hidden days now meet one known article, hidden articles are all one hidden article.
    met = data.item_of_event[data.shop_of_item[data.item_of_event] == 0]
    known, new = (int(met[data.new_item[met] == held][0]) for held in (False, True))
    free = data.new_customer[histories.customer_rows] | (histories.occurred_at >= 0)
    other = np.where(free, known, np.where(hidden, new, data.item_of_event))
    code = {name: row for row, name in enumerate(histories.article_ids.tolist())}
    rows = [code.get(data.items.article_ids[item], -1) for item in other.tolist()]
    assert min(rows) >= 0
    changed = replace(
        data, item_of_event=other, histories=replace(histories, articles=np.array(rows, histories.articles.dtype))
    )
    one, _ = train_on_known(data, config, 3, content_only=False)
    again, _ = train_on_known(changed, config, 3, content_only=False)
    for left, right in zip(one.state_dict().values(), again.state_dict().values(), strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy())
    ids = one.state_dict()["item_encoder.ids.weight"].numpy()
    assert not ids[data.new_item].any()
    assert ids[~data.new_item].any(axis=1).all()


@pytest.mark.slow
def test_a_trained_tower_finds_its_way_in_a_shop_it_never_saw(data: TransferData) -> None:
    rows = {(row.shop, row.asked, row.ranker): row for row in measure(data, CONFIG, seed=1)}
    shops = {key[:2] for key in rows}
    assert ("synthetic", "new shop") in shops and ("hm", "new customers, all articles") in shops
    for row in rows.values():
        assert 0 <= row.low <= row.recall <= row.high <= 1
        if row.ranker == "random":
            assert row.recall == pytest.approx(K / row.candidates, abs=1e-5)
    for shop, asked in (("synthetic", "new shop"), ("hm", "new customers, all articles")):
        assert rows[shop, asked, "two-tower, content only"].low > rows[shop, asked, "random"].recall
