"""What the customer bought before (or looked at), by decayed interest: sum of weight x exp(-age / 60 days)."""

from __future__ import annotations

from collections.abc import Sequence

from serving.history import DECAY_DAYS
from serving.retrieval.candidates import Found, best
from serving.retrieval.query import Query


class Repurchase:
    name = "repurchase"

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        return [best(*query.history.interest(DECAY_DAYS), k) for query in queries]
