"""A request with what is known of its customer: what every stage after retrieval works on."""

from __future__ import annotations

from dataclasses import dataclass

from serving.messages import RecommendationRequest
from serving.retrieval.query import Query

Trace = list[dict[str, str | int | float]]


@dataclass(frozen=True, eq=False, slots=True)
class Prepared:
    """segment: name of the customer's, where the bundle or the request tells · as_of: time of the newest event known,
    microseconds · forgetful: of some purchases nobody can tell any more what they were of."""

    request: RecommendationRequest
    query: Query
    segment: str | None
    as_of: int | None
    forgetful: bool = False

    @property
    def strategy(self) -> str:
        """What answers. A customer of whom nothing is known gets what is popular instead of `full`: a ranker that had
        learned from such customers too was tried, and did worse than the list (H&M, cut of 19 September)."""
        return "popular" if self.request.strategy == "full" and self.query.cold else self.request.strategy
