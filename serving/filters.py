"""Which candidates may be shown: what can be had, what the request excludes and the limits it sets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from infra.errors import InvalidMessage
from serving.history import History
from serving.items import ATTRIBUTES, ItemTable
from serving.messages import RecommendationRequest
from serving.shelf import Shelf

LARGEST = float(np.finfo(np.float32).max)


def check_filters(request: RecommendationRequest) -> None:
    """Refuse a filter that could never work.

    Raises:
        InvalidMessage: an attribute that articles do not have, or min_price above max_price.
    """
    unknown = [name for name in request.filters.attributes if name not in ATTRIBUTES]
    if unknown:
        raise InvalidMessage(
            f"filter on {', '.join(unknown)}; articles have {', '.join(ATTRIBUTES)}",
            column="filters.attributes",
        )
    low, high = request.filters.min_price, request.filters.max_price
    if low is not None and high is not None and low > high:
        raise InvalidMessage(f"min_price {low} is above max_price {high}", column="filters")


def allowed(
    request: RecommendationRequest,
    items: ItemTable,
    history: History,
    rows: npt.NDArray[np.int64],
    shelf: Shelf | None = None,
) -> npt.NDArray[np.bool_]:
    """bool[C]: True where a candidate can be had and passes every filter. A price limit drops articles of unknown
    price.

    Args:
        shelf: what can be had now, and for how much; None: everything, at the bundle's prices.
    """
    keep = np.ones(len(rows), np.bool_) if shelf is None else shelf.available[rows]
    prices = items.prices if shelf is None else shelf.prices
    if request.exclude:
        excluded = [items.index[a] for a in request.exclude if a in items.index]
        keep &= ~np.isin(rows, excluded)
    filters = request.filters
    if filters.exclude_bought:
        keep &= ~np.isin(rows, history.items)
    for name, values in filters.attributes.items():
        wanted = [code for code, label in enumerate(items.labels[name]) if label in values]
        keep &= np.isin(items.codes[name][rows], wanted)
    if filters.min_price is not None:
        keep &= prices[rows] >= _limit(filters.min_price)
    if filters.max_price is not None:
        keep &= prices[rows] <= _limit(filters.max_price)
    return keep


def _limit(price: float) -> np.float32:
    """As prices are kept; one beyond the end of float32 is at its end."""
    return np.float32(min(price, LARGEST))
