"""Hand-written data sets small enough to read, in the files' own formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HM_ARTICLES = """\
article_id,product_code,prod_name,product_type_name,product_group_name,colour_group_name,department_name,detail_desc
0108775015,0108775,Strap top,Vest top,Garment Upper body,Black,Jersey Basic,Jersey top with narrow straps.
0108775044,0108775,Strap top,Vest top,Garment Upper body,White,Jersey Basic,"Jersey top, with narrow straps."
0706016001,0706016,Jade HW Skinny,Trousers,Garment Lower body,Black,Trousers,
"""
HM_CUSTOMERS = """\
customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code
anna,1.0,1.0,ACTIVE,Regularly,24,p1
bert,,,ACTIVE,NONE,25.0,p2
cleo,,,,,,p3
"""
HM_TRANSACTIONS = """\
t_dat,customer_id,article_id,price,sales_channel_id
2020-09-17,bert,0706016001,0.0338,2
2020-09-16,anna,108775015,0.0084,1
2020-09-16,anna,108775015,0.0084,1
2020-09-16,anna,0108775044,0.0084,1
2020-09-17,dora,706016001,0.0338,2
"""


def write_hm(
    directory: Path,
    *,
    articles: str = HM_ARTICLES,
    customers: str = HM_CUSTOMERS,
    transactions: str = HM_TRANSACTIONS,
) -> Path:
    """The three Kaggle files as CSV in `directory`."""
    directory.mkdir(exist_ok=True)
    (directory / "articles.csv").write_text(articles)
    (directory / "customers.csv").write_text(customers)
    (directory / "transactions_train.csv").write_text(transactions)
    return directory


PRODUCTS = [
    (1, "PRODUCE", "National", "TROPICAL FRUIT", "BANANAS", "40 LB"),
    (2, "GROCERY", "Private", "FLUID MILK PRODUCTS", "FLUID MILK WHITE ONLY", None),
    (3, "FUEL", "Private", "COUPON/MISC ITEMS", "GASOLINE-REG UNLEADED", None),
]
LINES = [
    # household, basket, product, quantity, sales value, time
    (900, 77, 1, 2, 1.58, np.datetime64("2017-01-02T12:10:28", "ns")),
    (900, 77, 2, 1, 2.49, np.datetime64("2017-01-02T12:10:28", "ns")),
    (900, 77, 2, 0, 0.0, np.datetime64("2017-01-02T12:10:28", "ns")),
    (901, 76, 3, 10296, 20.5, np.datetime64("2017-01-01T09:30:00", "ns")),
    (901, 76, 316011, 1, 5.0, np.datetime64("2017-01-01T09:30:00", "ns")),
]


def write_complete_journey(directory: Path, lines: list[tuple[Any, ...]] | None = None) -> Path:
    """The package's three data files in `directory`."""
    directory.mkdir(exist_ok=True)
    _write(
        directory / "products.parquet",
        ("product_id", "department", "brand", "product_category", "product_type", "package_size"),
        PRODUCTS,
    )
    _write(
        directory / "demographics.parquet",
        (
            "household_id",
            "age",
            "income",
            "home_ownership",
            "marital_status",
            "household_size",
            "household_comp",
            "kids_count",
        ),
        [(900, "45-54", "50-74K", None, "Married", "2", "2 Adults No Kids", "0")],
    )
    _write(
        directory / "transactions.parquet",
        ("household_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp"),
        LINES if lines is None else lines,
    )
    return directory


def _write(path: Path, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}), path)
