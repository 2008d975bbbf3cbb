"""The articles of one bundle: outside ids, row numbers, attributes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import BundleError
from serving.messages import ATTRIBUTES as ATTRIBUTES  # noqa: PLC0414 (its columns are here)
from streams.arrivals import id_keys
from streams.catalog import Article
from streams.events import id_key

COLUMNS = ("article_id", "title", "product_code", *ATTRIBUTES, "price")
FIELDS = (*ATTRIBUTES, "product_code", "article_id")  # by which a rule may name articles


@dataclass(frozen=True, eq=False)
class ItemTable:
    """Row number = item_idx.

    index: article_id -> item_idx, the newest where an article has several · codes: attribute -> int32[n], -1 where
    missing · labels: attribute -> names by code · prices: float32[n], nan where unknown · products: int64[n], equal for
    variants of one product, -1 where the shop has no product codes · product_codes: what they are, by number · keys:
    uint64[n] `streams.events.id_key` of the articles.
    """

    article_ids: list[str]
    index: dict[str, int]
    titles: list[str]
    codes: dict[str, npt.NDArray[np.int32]]
    labels: dict[str, list[str]]
    prices: npt.NDArray[np.float32]
    products: npt.NDArray[np.int64]
    product_codes: list[str]
    keys: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.article_ids)

    @classmethod
    def from_table(cls, table: pa.Table) -> ItemTable:
        """Build from columns article_id, title, the ATTRIBUTES, price.

        Raises:
            BundleError: a column is missing or an article_id stands twice.
        """
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise BundleError(f"items table lacks {', '.join(missing)}; it has {', '.join(table.column_names)}")
        article_ids = table["article_id"].to_pylist()
        index = {article_id: row for row, article_id in enumerate(article_ids)}
        if len(index) != len(article_ids):
            raise BundleError(f"items table names {len(article_ids) - len(index)} articles twice")
        codes, labels = {}, {}
        for name in ATTRIBUTES:
            codes[name], labels[name] = _encode(table[name])
        prices = np.asarray(table["price"].cast(pa.float32()).to_numpy(), np.float32)
        titles = [title or "" for title in table["title"].to_pylist()]
        products, product_codes = _encode(table["product_code"])
        keys = id_keys(table["article_id"])
        return cls(article_ids, index, titles, codes, labels, prices, products.astype(np.int64), product_codes, keys)

    def rows(self, chosen: npt.NDArray[np.int64]) -> ItemTable:
        """The chosen articles alone, in that order; codes and labels stay what they are."""
        names = [self.article_ids[row] for row in chosen.tolist()]
        return ItemTable(
            names,
            {name: row for row, name in enumerate(names)},
            [self.titles[row] for row in chosen.tolist()],
            {name: codes[chosen] for name, codes in self.codes.items()},
            self.labels,
            self.prices[chosen],
            self.products[chosen],
            self.product_codes,
            self.keys[chosen],
        )

    def extended(self, articles: Sequence[Article]) -> ItemTable:
        """The same with a row more for each of `articles`; this one stays what it is. An article that has a row already
        is found by its new one from then on."""
        rows = range(len(self), len(self) + len(articles))
        named = {name: _extended(self.labels[name], [getattr(a, name) for a in articles]) for name in ATTRIBUTES}
        products, product_codes = _extended(self.product_codes, [article.product_code for article in articles])
        prices = [np.nan if article.price is None else article.price for article in articles]
        return ItemTable(
            self.article_ids + [article.article_id for article in articles],
            self.index | {article.article_id: row for article, row in zip(articles, rows, strict=True)},
            self.titles + [article.title or "" for article in articles],
            {name: np.concatenate([self.codes[name], codes]) for name, (codes, _) in named.items()},
            {name: labels for name, (_, labels) in named.items()},
            np.concatenate([self.prices, np.array(prices, np.float32)]),
            np.concatenate([self.products, products.astype(np.int64)]),
            product_codes,
            np.concatenate([self.keys, np.array([id_key(article.article_id) for article in articles], np.uint64)]),
        )

    def having(self, field: str, values: Collection[str], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """bool[len(rows)]: True where an article's `field`, one of FIELDS, is one of `values`; never where it is
        missing."""
        values = frozenset(values)  # a request may name many, and each label is looked up in them
        if field == "article_id":
            wanted = [self.index[value] for value in values if value in self.index]
            return np.isin(rows, wanted)
        if field == "product_code":
            codes, known = self.products, self._product_index
            return np.isin(codes[rows], [known[value] for value in values if value in known])
        wanted = [code for code, label in enumerate(self.labels[field]) if label in values]
        return np.isin(self.codes[field][rows], wanted)

    @cached_property
    def _product_index(self) -> dict[str, int]:
        return {label: code for code, label in enumerate(self.product_codes)}

    def label(self, attribute: str, item_idx: int) -> str | None:
        code = int(self.codes[attribute][item_idx])
        return None if code < 0 else self.labels[attribute][code]

    def describe(self, article_id: str) -> dict[str, str | float | None]:
        """What a page shows of an article; an unknown one has only its id."""
        item = self.index.get(article_id)
        if item is None:
            return {
                "article_id": article_id,
                "title": None,
                "category": None,
                "subcategory": None,
                "department": None,
                "price": None,
            }
        price = float(self.prices[item])
        return {
            "article_id": article_id,
            "title": self.titles[item] or None,
            "category": self.label("category", item),
            "subcategory": self.label("subcategory", item),
            "department": self.label("department", item),
            "price": None if np.isnan(price) else round(price, 2),
        }


def _extended(labels: list[str], values: Sequence[str | None]) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Codes of the values, -1 for None, and the labels with those that are new at the end."""
    known = {label: code for code, label in enumerate(labels)}
    codes = [-1 if value is None else known.setdefault(value, len(known)) for value in values]
    return np.array(codes, np.int32), list(known)


def _encode(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Codes with -1 for null, and the values that they stand for."""
    encoded = column.combine_chunks().cast(pa.string()).dictionary_encode()
    return np.asarray(encoded.indices.fill_null(-1), np.int32), encoded.dictionary.to_pylist()
