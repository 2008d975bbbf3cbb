"""A bundle of any size without any data set: random articles and purchases, through the code that makes real bundles.

Sizes are plausible, contents are not: purchases are drawn by popularity, the towers are untrained and the ranker has
learned from noise. What a request costs depends on the former, so that is what such a bundle is good for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from infra.bundle import Bundle, open_bundle, write_manifest
from offline.build_catalog import CatalogConfig, Vectors, catalog_at
from offline.build_statistics import build_items
from offline.examples import build_examples
from offline.learn import LearnConfig, Learned
from offline.progress import step
from offline.rankers import BLEND_NAME, Rankers
from offline.shop import Shop
from offline.sources.base import ARTICLE_SCHEMA
from offline.stage import stage
from offline.train_catboost import train_catboost
from offline.train_collaborative import CollaborativeConfig
from offline.train_ranking import train_mmoe
from offline.train_retrieval import item_inputs, item_vectors, new_two_tower
from offline.trained_encoder import TrainedEncoder
from serving.content_space import ContentSpace, Projection, space_name
from serving.items import ItemTable
from serving.word_vectors import DIM, NAME, REVISION
from streams.events import to_micros
from streams.histories import Histories, build_histories

CUT = datetime(2020, 9, 16, tzinfo=UTC)
DAYS = 365
WEEK_US = 7 * 86_400_000_000
# As H&M's catalogue divides its articles.
KINDS = {"department": 250, "category": 19, "subcategory": 131, "brand": 10, "colour": 50}
VARIANTS = 2.2  # articles a product
CONTENT_DIM = 128
AGAIN = 0.2  # share of purchases that repeat one of the customer's own
BASKET = 3.0  # articles


@dataclass(frozen=True)
class BenchSize:
    """`median_events`: of a customer; they spread as e^N(0, 1), so that one in a hundred has ten times as many."""

    articles: int = 105_542
    customers: int = 20_000
    median_events: float = 20.0
    examples: int = 300  # customers the ranker learns from


def bench_histories(size: BenchSize, seed: int) -> Histories:
    """Purchases of a year by popularity (Zipf), some of them repeats, in baskets of about BASKET."""
    rng = np.random.default_rng(seed)
    counts = np.clip(rng.lognormal(np.log(size.median_events), 1.0, size.customers), 1, 2_000).astype(np.int64)
    total = int(counts.sum())
    starts = np.cumsum(counts) - counts
    customer = np.repeat(np.arange(size.customers), counts)
    weight = 1.0 / (np.arange(size.articles) + 30.0)
    popularity = rng.permutation(weight / weight.sum())
    article = rng.choice(size.articles, total, p=popularity)
    earlier = starts[customer] + (rng.random(total) * (np.arange(total) - starts[customer])).astype(np.int64)
    again = rng.random(total) < AGAIN
    article[again] = article[earlier[again]]
    trip = (rng.random(total) * np.ceil(counts[customer] / BASKET)).astype(np.int64)
    trips = rng.random(int(np.max(trip)) + 1 + size.customers) * DAYS  # the same trip number is another day for others
    moment = to_micros(CUT) - 1 - (trips[trip + customer] * 86_400_000_000).astype(np.int64)
    names = np.char.add("p", np.arange(total).astype(str))
    table = pa.table(
        {
            "event_id": pa.array(names),
            "type": pa.repeat(pa.scalar("purchase"), total),
            "occurred_at": pa.array(moment, pa.timestamp("us", "UTC")),
            "customer_id": pa.array(np.char.add("c", customer.astype(str))),
            "article_id": pa.array(np.char.zfill(article.astype(str), 10)),
            "price": pa.array(np.round(rng.lognormal(3.0, 0.6, total), 2)),
            "quantity": pa.repeat(pa.scalar(1, pa.int32()), total),
        }
    )
    return build_histories([table])


def bench_shop(size: BenchSize, seed: int) -> Shop:
    """A shop of random articles, its histories and unit content vectors."""
    rng = np.random.default_rng(seed + 1)
    n = size.articles
    product = (np.arange(n) / VARIANTS).astype(np.int64)
    columns: dict[str, pa.Array] = {
        "article_id": pa.array(np.char.zfill(np.arange(n).astype(str), 10)),
        "product_code": pa.array(product.astype(str)),
        "title": pa.array(np.char.add("Article ", product.astype(str))),
        "text": pa.nulls(n, pa.string()),
        "known_from": pa.nulls(n, ARTICLE_SCHEMA.field("known_from").type),
        "price": pa.array(np.round(rng.lognormal(3.0, 0.6, n), 2)),
    }
    columns |= {
        name: pa.array(np.char.add(f"{name} ", rng.integers(0, kinds, n).astype(str))) for name, kinds in KINDS.items()
    }
    articles = pa.table({name: columns[name] for name in ARTICLE_SCHEMA.names}, schema=ARTICLE_SCHEMA)
    histories = bench_histories(size, seed)
    cut = to_micros(CUT)
    items = build_items(articles, histories, cut)
    content = rng.standard_normal((n, CONTENT_DIM)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    bands = ("16-25", "26-35", "36-45", "46-55", "56+")
    segments = {c: bands[row % len(bands)] for row, c in enumerate(histories.customers)}
    content = content.astype(np.float16).astype(np.float32)
    return Shop(cut, histories, articles, items, ItemTable.from_table(items), segments, content, _space(rng))


def _space(rng: np.random.Generator) -> ContentSpace:
    """The vectors above are random, so the map of a new article's words to one of them is too."""
    axes, _ = np.linalg.qr(rng.standard_normal((DIM, CONTENT_DIM)))
    nothing = np.empty(0, np.float32)
    projection = Projection(np.zeros(DIM, np.float32), axes.astype(np.float32))
    return ContentSpace(space_name(NAME, REVISION), 1.0, nothing, projection)


def write_bench_bundle(directory: Path, shop: Shop, size: BenchSize, seed: int) -> Bundle:
    """Stage the shop with untrained towers, real counts and factors, and a blend of the standard sizes.

    Raises:
        GateError: an exported network differs from the one in memory.
    """
    config = replace(LearnConfig(), catalog=CatalogConfig(CollaborativeConfig(iterations=2)))
    inputs = item_inputs(shop.items, shop.content)
    tower = new_two_tower(inputs, config.tower, seed)
    vectors = item_vectors(tower, inputs)
    parts = Vectors(vectors, TrainedEncoder(tower, vectors, shop.items.index, "bench"), shop.content)
    before, now = (
        catalog_at(shop.histories, shop.items, shop.segments, cut, parts, config.catalog, seed=seed)
        for cut in (shop.cut - WEEK_US, shop.cut)
    )
    with step("examples", size.examples) as progress:
        examples = build_examples(
            shop.histories, before, shop.cut - WEEK_US, WEEK_US, progress, limit=size.examples, seed=seed
        )
    rankers = Rankers(
        train_mmoe(examples, config.ranking, seed=seed, steps=10),
        train_catboost(examples, config.ranking.catboost, seed=seed),
        BLEND_NAME,
        {},
    )
    directory.mkdir(parents=True)
    peers = directory.parent / f"{directory.name}-peers"
    peers.mkdir(exist_ok=True)
    stage(directory, peers, shop, Learned(tower, now, rankers, examples))
    (directory / "golden.jsonl").write_bytes(b"")
    (directory / "report.json").write_text("{}")
    write_manifest(
        directory,
        created_at=CUT,
        trained_through=CUT,
        config={"source": "random", "seed": seed, "size": asdict(size)},
        contracts={},
        counts={"items": len(shop.items)},
        metrics={},
    )
    return open_bundle(directory)
