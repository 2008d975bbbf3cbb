"""Which candidates a request lets through, or the shop (serving/rules.py): one named mask a rule, so that whoever
enforces them and whoever explains them read the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from infra.errors import InvalidMessage
from serving.items import ATTRIBUTES, FIELDS, ItemTable
from serving.messages import Filters, RecommendationRequest, Rules
from serving.shelf import Shelf

Mask = npt.NDArray[np.bool_]
NamedMasks = Iterator[tuple[str, Mask]]
LARGEST = float(np.finfo(np.float32).max)


def check_filters(request: RecommendationRequest) -> None:
    """Refuse filters and rules that could never work.

    Raises:
        InvalidMessage: an attribute or field that articles do not have, or min_price above max_price.
    """
    for where, problem in problems(request.filters, request.rules):
        raise InvalidMessage(problem, column=where)


def problems(filters: Filters, rules: Rules) -> Iterator[tuple[str, str]]:
    """What could never work: where it stands, and why."""
    yield from _unknown("filters.attributes", "filter on", filters.attributes, ATTRIBUTES)
    yield from _unknown("rules.blocked", "blocked by", rules.blocked, FIELDS)
    yield from _unknown("rules.boosts", "boost by", [boost.field for boost in rules.boosts], FIELDS)
    low, high = filters.min_price, filters.max_price
    if low is not None and high is not None and low > high:
        yield "filters", f"min_price {low} is above max_price {high}"


def _unknown(where: str, what: str, given: Iterable[str], known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    unknown = [name for name in given if name not in known]
    if unknown:
        yield where, f"{what} {', '.join(unknown)}; articles have {', '.join(known)}"


def filter_masks(filters: Filters, items: ItemTable, shelf: Shelf, rows: npt.NDArray[np.int64]) -> NamedMasks:
    """True where attributes and price of a row pass `filters`, by name. A price limit drops articles of unknown
    price."""
    for name, values in filters.attributes.items():
        yield f"attributes.{name}", items.having(name, values, rows)
    if filters.min_price is not None:
        yield "min_price", shelf.prices[rows] >= _limit(filters.min_price)
    if filters.max_price is not None:
        yield "max_price", shelf.prices[rows] <= _limit(filters.max_price)


def blocked_masks(rules: Rules, items: ItemTable, rows: npt.NDArray[np.int64]) -> NamedMasks:
    """True where `rules` do not block a row, by name."""
    for field, values in rules.blocked.items():
        yield f"blocked.{field}", ~items.having(field, values, rows)


def _limit(price: float) -> np.float32:
    """As prices are kept; one beyond the end of float32 is at its end."""
    return np.float32(min(price, LARGEST))
