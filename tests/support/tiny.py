"""A bundle that trains in seconds on a shop whose answer a reader can see.

Twenty-four customers in two camps: even ones buy tops, odd ones buy shoes. Everybody in a camp buys its staple each
week (`top-0`, `shoe-0`) and one more article of the camp by a die. `hat-0` is new: nobody ever bought it. Articles 0
and 1 of a kind, 2 and 3, 4 and 5 are one product in white and in black.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from infra.clock import ManualClock
from infra.registry import Registry
from offline.build_catalog import CatalogConfig
from offline.content.vectors import ContentConfig
from offline.event_log import EventLog, import_data
from offline.learn import LearnConfig
from offline.run import OfflineRun, RunConfig, limit_threads
from offline.train_catboost import CatBoostConfig
from offline.train_collaborative import CollaborativeConfig
from offline.train_ranking import RankingConfig
from offline.train_retrieval import TowerConfig
from offline.window import choose_window

START = datetime(2020, 6, 1, tzinfo=UTC)
WEEKS = 8
CUSTOMERS = 24
KINDS = 6
TINY = RunConfig(
    ContentConfig(text="words", dim=8),
    LearnConfig(
        TowerConfig(examples=2_000, epochs=4, batch=128, negatives=8, dim=16, learning_rate=1e-2),
        refresh_examples=500,
        catalog=CatalogConfig(CollaborativeConfig(dim=4, iterations=5, regularization=0.1)),
        ranking=RankingConfig(
            weeks=3,
            steps=120,
            every=40,
            batch=4,
            learning_rate=1e-2,
            experts=2,
            negatives=1.0,
            catboost=CatBoostConfig(rounds=20, every=10),
        ),
    ),
    seed=3,
)


def customer_id(number: int) -> str:
    return f"customer-{number:02d}"


def write_tiny_shop(directory: Path) -> Path:
    """H&M's three files for the shop, as parquet; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    articles = [("top", n) for n in range(KINDS)] + [("shoe", n) for n in range(KINDS)] + [("hat", 0)]
    ids = [article_number(kind, n) for kind, n in articles]
    pq.write_table(
        pa.table(
            {
                "article_id": ids,
                "product_code": [product_number(kind, n) for kind, n in articles],
                "prod_name": [f"{kind.title()} {n}" for kind, n in articles],
                "product_type_name": [kind for kind, _ in articles],
                "product_group_name": [kind for kind, _ in articles],
                "department_name": ["Wardrobe"] * len(ids),
                "colour_group_name": ["Black" if n % 2 else "White" for _, n in articles],
                "detail_desc": [f"A plain {kind}." for kind, _ in articles],
            }
        ),
        directory / "articles.parquet",
    )
    people = [customer_id(n) for n in range(CUSTOMERS)]
    pq.write_table(
        pa.table({"customer_id": people, "age": [20 + n for n in range(CUSTOMERS)]}),
        directory / "customers.parquet",
    )
    days, who, what = [], [], []
    dice = random.Random(7)
    for week in range(WEEKS):
        for number, person in enumerate(people):
            kind = "shoe" if number % 2 else "top"
            day = (START + timedelta(days=7 * week + number % 7)).date().isoformat()
            for article in (
                article_number(kind, 0),
                article_number(kind, dice.randrange(1, KINDS)),
            ):
                days.append(day)
                who.append(person)
                what.append(int(article))
    pq.write_table(
        pa.table(
            {
                "t_dat": days,
                "customer_id": who,
                "article_id": pa.array(what, pa.int64()),
                "price": [9.5] * len(days),
                "sales_channel_id": [1] * len(days),
            }
        ),
        directory / "transactions_train.parquet",
    )
    return directory


def plant(shop: Path, lines: list[tuple[datetime, str, str, float]]) -> None:
    """Add purchases (day, customer, article, price) to the shop's file."""
    path = shop / "transactions_train.parquet"
    table = pq.read_table(path)
    more = pa.table(
        {
            "t_dat": [line[0].date().isoformat() for line in lines],
            "customer_id": [line[1] for line in lines],
            "article_id": pa.array([int(line[2]) for line in lines], pa.int64()),
            "price": [line[3] for line in lines],
            "sales_channel_id": [1] * len(lines),
        }
    )
    pq.write_table(pa.concat_tables([table, more]), path)


def article_number(kind: str, n: int) -> str:
    """Ten digits, the first of them zero, as H&M has them."""
    return f"0{['top', 'shoe', 'hat'].index(kind) + 1}{n:08d}"


def product_number(kind: str, n: int) -> str:
    """An article and the next one are variants of one product."""
    return article_number(kind, 0)[:2] + f"{n // 2:05d}"


def tiny_log(directory: Path) -> EventLog:
    return import_data("hm", write_tiny_shop(directory / "shop"), directory / "log")


def build_tiny_bundle(directory: Path, channel: str = "production") -> str:
    """Train and publish into `directory`/registry; returns the bundle id."""
    limit_threads(1)  # of two, one would wait for the other all the time at this size
    log = tiny_log(directory)
    job = OfflineRun(log, choose_window(log.span, None), TINY, directory / "runs", ManualClock(START))
    registry = Registry(f"file://{directory / 'registry'}")
    return job.execute(registry, channel, activate_anyway=True).bundle_id
