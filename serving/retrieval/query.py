"""What is known of a customer at the moment of a request, shared by all sources and features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from serving.history import History
from serving.retrieval.candidates import Floats, Ints

Related = tuple[Ints, Floats, Floats]


@dataclass(frozen=True)
class Reading:
    """How a bundle reads a history: collaborative fold-in, taste, and related articles with both weights."""

    factors: Callable[[History], Floats]
    taste: Callable[[History], Floats]
    related: Callable[[History], Related]


@dataclass(frozen=True, eq=False)
class Query:
    """A customer as the sources see one. What not every source asks for is computed when the first one does, and once.

    vector: float32[d] two-tower embedding, all zero where nothing is known · segment: row of the statistics' segments.
    """

    history: History
    vector: Floats
    segment: int
    reading: Reading = field(repr=False)

    @property
    def cold(self) -> bool:
        """Nothing is known that the bundle could use."""
        return not len(self.history.acts)

    @cached_property
    def factors(self) -> Floats:
        """Collaborative fold-in, float32[f], all zero where nothing is known."""
        return self.reading.factors(self.history)

    @cached_property
    def taste(self) -> Floats:
        """Of content, float32[c], all zero where nothing is known."""
        return self.reading.taste(self.history)

    @cached_property
    def related(self) -> Related:
        """Articles that go with what the customer acted on, ascending (int64[r]), with the sum and the largest of their
        co-visitation weights (float32[r])."""
        return self.reading.related(self.history)
