"""What the customer bought before, by decayed count: sum of exp(-age / 60 days)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.retrieval.candidates import Floats, Ints, Query


class Repurchase:
    name = "repurchase"

    def retrieve(self, queries: Sequence[Query], k: int) -> list[tuple[Ints, Floats]]:
        found = []
        for query in queries:
            past = query.history
            best = np.argsort(-past.decayed, kind="stable")[:k]
            found.append((past.items[best], past.decayed[best].astype(np.float32)))
        return found
