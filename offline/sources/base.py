"""What every data source gives: articles, customers and events in one shape, by batches, checked on the way.

A source reports what is wrong through `Findings`. An import hands in `StopAtFirst`, so the first broken row
ends it with file, column and row; a validation hands in `CollectAll`, so every check runs to the end.
One set of checks, two ways to react.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import DataError

EVENT_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("type", pa.string()),
        ("occurred_at", pa.timestamp("us", tz="UTC")),
        ("customer_id", pa.string()),
        ("article_id", pa.string()),
        ("price", pa.float64()),
        ("quantity", pa.int32()),
        ("sales_channel_id", pa.int8()),
    ]
)
# `row` is the 1-based data row in the source file; it orders rows that are alike.
SOURCE_EVENT_SCHEMA = EVENT_SCHEMA.append(pa.field("row", pa.int64()))
# `known_from` is when this was first known of the article; null: always. Facts that change have a row for each change.
ARTICLE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("article_id", "product_code", "title", "department", "category")),
        *((name, pa.string()) for name in ("subcategory", "brand", "colour", "text")),
        ("price", pa.float64()),
        ("known_from", pa.timestamp("us", tz="UTC")),
    ]
)
ARTICLE_FACTS = tuple(name for name in ARTICLE_SCHEMA.names if name not in ("article_id", "known_from"))
CUSTOMER_SCHEMA = pa.schema(
    [
        (name, pa.string())
        for name in (
            "customer_id",
            "age_band",
            "income",
            "household_size",
            "household_type",
            "kids",
            "home_ownership",
            "marital_status",
            "membership",
            "news_frequency",
        )
    ]
)

# The checks every source makes, in the order they are shown.
CHECKS = {
    "columns": "the files are there, readable, and have the columns needed",
    "ids_present": "no id is empty",
    "ids_unique": "no article, customer or given event id appears twice",
    "ids_valid": "ids have the form this source uses",
    "types": "every event type is known",
    "dates": "dates parse and lie in 1990..2099",
    "prices": "prices are finite numbers >= 0",
    "quantities": "quantities are whole numbers from 1 to 65535",
    "channels": "sales channels are whole numbers from 0 to 127",
    "known_articles": "every article bought is in the article table",
}
EXAMPLES = 5


@dataclass(frozen=True)
class Example:
    """One broken row: where it is and what it holds."""

    file: str
    column: str | None
    row: int | None
    value: str | None
    reason: str


class Findings(Protocol):
    """Where a source reports broken rows and what it left out on purpose."""

    notes: Counter[str]

    def add(
        self,
        check: str,
        reason: str,
        *,
        file: str,
        column: str,
        rows: npt.NDArray[np.int64],
        values: Sequence[Any],
    ) -> None:
        """Report n >= 1 broken rows: `rows` int64[n] 1-based, `values` the first few of their values."""


@dataclass
class StopAtFirst:
    """Raises DataError at the first broken row."""

    notes: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        check: str,
        reason: str,
        *,
        file: str,
        column: str,
        rows: npt.NDArray[np.int64],
        values: Sequence[Any],
    ) -> None:
        del check
        raise DataError(f"{values[0]!r}: {reason}", file=file, column=column, row=int(rows[0]))


@dataclass
class CollectAll:
    """Counts broken rows by check and keeps the first five examples of each."""

    notes: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def add(
        self,
        check: str,
        reason: str,
        *,
        file: str,
        column: str,
        rows: npt.NDArray[np.int64],
        values: Sequence[Any],
    ) -> None:
        self.failed[check] += len(rows)
        kept = self.examples.setdefault(check, [])
        for row, value in zip(rows.tolist(), values, strict=False):
            if len(kept) < EXAMPLES:
                kept.append(Example(file, column, row, None if value is None else str(value), reason))

    def add_error(self, check: str, error: DataError) -> None:
        """Record a problem of a whole file."""
        self.failed[check] += 1
        kept = self.examples.setdefault(check, [])
        if len(kept) < EXAMPLES:
            kept.append(Example(error.file or "", error.column, error.row, None, error.reason))


class Source(Protocol):
    """One data set. Each iterator reads its file anew and in constant memory.

    Batches leave out the rows reported as broken. Every method raises DataError for a file that is missing,
    unreadable or lacks a column, whatever the findings do.
    """

    @property
    def name(self) -> str:
        """The name `--data` knows it by."""

    @property
    def description(self) -> str:
        """One line for people."""

    @property
    def revision(self) -> int:
        """Grows when the adapter's output changes, so that old imports are made again."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The input files: articles, customers, transactions."""

    @property
    def event_rows(self) -> int | None:
        """Rows of the transactions file where that is known without reading it."""

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Batches of ARTICLE_SCHEMA, all rows of an article in one batch; (article_id, known_from) is unique."""

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Batches of CUSTOMER_SCHEMA with unique ids; buyers may be missing here."""

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        """Batches of SOURCE_EVENT_SCHEMA in file order. Rows alike share an event_id; the log numbers them.

        `known_articles` are the article ids; None where they could not be read, and are not checked then.
        """
