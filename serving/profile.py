"""What a customer's remembered purchases say of them: favourites of each attribute, and the usual price."""

from __future__ import annotations

import numpy as np

from serving.items import ItemTable
from streams.events import PURCHASE
from streams.state import CustomerState

SHOWN = 3


def profile_of(state: CustomerState | None, items: ItemTable, segment: str | None) -> dict[str, object]:
    """What `Profile` shows. Shares are of purchased pieces whose article is known and has the attribute; a price is
    that of one piece."""
    empty: dict[str, object] = {"segment": segment, "favourites": {}, "usual_price": None}
    if state is None:
        return empty
    bought = np.flatnonzero(state.types == PURCHASE)
    rows = np.array([items.index.get(state.article_ids[i], -1) for i in bought.tolist()], np.int64)
    pieces = np.asarray(state.quantities)[bought].astype(np.float64)
    paid = np.asarray(state.prices)[bought] / pieces
    paid = paid[~np.isnan(paid)]
    known = rows >= 0
    favourites = {}
    for name, codes in items.codes.items():
        found = codes[rows[known]]
        counts = np.bincount(found[found >= 0], weights=pieces[known][found >= 0])
        top = np.argsort(-counts, kind="stable")[:SHOWN]
        shares = [
            {"name": items.labels[name][code], "share": round(float(counts[code] / counts.sum()), 4)}
            for code in top.tolist()
            if counts[code] > 0
        ]
        if shares:
            favourites[name] = shares
    return {
        **empty,
        "favourites": favourites,
        "usual_price": round(float(np.median(paid)), 2) if len(paid) else None,
    }
