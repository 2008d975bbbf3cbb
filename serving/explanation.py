"""What a trace says of each article that is shown (`explain` in a request). Flat entries of words and numbers, as all
of a trace is; nothing of it is about anybody but the customer who asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.messages import Item
from serving.prepared import Trace
from serving.retrieval.candidates import UNRANKED, CandidateSet, Floats, Ints


def told_items(items: Sequence[Item], candidates: CandidateSet, places: Ints, gates: Floats | None) -> Trace:
    """An entry an item: its place, score and source, `rank.SOURCE` from 0 where a source found it, and `gate.N`, the
    share of the ranker's expert N in the score, where the ranker tells.

    Args:
        places: of the first items among the candidates; those after them were filled in.
        gates: float32[len(places), E].
    """
    told: Trace = []
    for n, item in enumerate(items):
        entry: dict[str, str | int | float] = {
            "stage": "item",
            "rank": item.rank,
            "article_id": item.article_id,
            "score": item.score,
            "source": item.source,
        }
        if item.reason is not None:
            entry["reason"] = item.reason
        if n < len(places):
            ranks = candidates.ranks[places[n]].tolist()
            named = zip(candidates.sources, ranks, strict=True)
            entry |= {f"rank.{source}": int(rank) for source, rank in named if rank < UNRANKED}
            if gates is not None:
                entry |= {f"gate.{e}": round(share, 4) for e, share in enumerate(gates[n].tolist())}
        told.append(entry)
    return told
