"""What a candidate source is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serving.retrieval.candidates import Floats, Found, Ints
from serving.retrieval.query import Query


class Source(Protocol):
    """Finds articles for a batch of customers."""

    @property
    def name(self) -> str:
        """How requests, reports and features call it."""

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        """For each customer at most k rows in the order it would show them, no row twice; none where it knows nothing
        to say. Scores need not fall along the order."""


class ScoringSource(Source, Protocol):
    """A source that can score any article, not only those it finds."""

    def score(self, query: Query, rows: Ints) -> Floats:
        """float32[len(rows)]."""
