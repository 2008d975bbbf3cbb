"""What is known of a customer at the moment of a request, computed once and shared by all sources and features."""

from __future__ import annotations

from dataclasses import dataclass

from serving.history import History
from serving.retrieval.candidates import Floats, Ints


@dataclass(frozen=True, eq=False, slots=True)
class Query:
    """A customer as the sources see one.

    vector: float32[d] two-tower embedding · factors: float32[f] collaborative fold-in · taste: float32[c] content;
    each all zero where nothing is known · segment: row of the statistics' segments ·
    related, related_sum, related_max: articles that go with what the customer acted on, ascending (int64[r]), with the
    sum and the largest of their co-visitation weights (float32[r]).
    """

    history: History
    vector: Floats
    segment: int
    factors: Floats
    taste: Floats
    related: Ints
    related_sum: Floats
    related_max: Floats

    @property
    def cold(self) -> bool:
        """Nothing is known that the bundle could use."""
        return not len(self.history.acts)
