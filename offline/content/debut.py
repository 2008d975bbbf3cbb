"""How likely an article that nobody has bought yet is to be bought soon: what happened to its like before.

Text and photos say what an article is, not whether the shop sells it now. Of a catalogue's articles without a purchase
most are gone for good, so nearness alone finds few that will be bought. Two things that are known on the first day tell
more: articles listed together come on sale together (ids are given in the order of listing), and some kinds of
articles change all the time (magazines, toys, holiday sweets) while others never do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from offline.histories import item_column
from serving.debut import KIND, PRIOR, debut_window
from serving.items import ItemTable
from streams.encoder import MICROS_A_DAY
from streams.events import PURCHASE
from streams.histories import Histories

# Chosen as the rest of the rates (serving/debut.py).
NEIGHBOURS = 20  # listing places over which the weight of a neighbour falls to 1/e
_REACH = 5 * NEIGHBOURS

Floats = npt.NDArray[np.float64]


def debut_rates(items: ItemTable, histories: Histories, cut: int) -> npt.NDArray[np.float32]:
    """Relative chance of a first purchase soon after `cut` (microseconds), float32[n].

    Above 0 for every article without a purchase before the cut, 0 for all others, and for those of which nothing but
    the id is known: they are of no kind. It is the product of two debut rates over the catalogue's own: that of the
    neighbours in the order of listing and that of the same kind. A debut rate is the share of articles first bought
    within the window among all that had not been bought before it. The window is WINDOW_DAYS, or two thirds of a log
    that is shorter.
    """
    age = first_sale_age(items, histories, cut)
    never = np.isnan(age) & _described(items)
    # nan, which is no sale at all, is not <= anything.
    debut = (age <= debut_window(age)).astype(np.float64)
    at_risk = np.where(never, 1.0, debut)
    if not debut.any():
        return never.astype(np.float32)
    base = debut.sum() / at_risk.sum()
    rates = never.astype(np.float64)
    for gather in (_by_listing(items.article_ids), _by_kind(items)):
        rates *= (gather(debut) / base + PRIOR) / (gather(at_risk) + PRIOR)
    return rates.astype(np.float32)


def _described(items: ItemTable) -> npt.NDArray[np.bool_]:
    codes = np.stack([*items.codes.values(), items.products])
    return (codes >= 0).any(axis=0) | np.array([bool(title) for title in items.titles], np.bool_)


def first_sale_age(items: ItemTable, histories: Histories, cut: int) -> Floats:
    """Days from each article's first purchase before `cut` to the cut, nan where there was none; float64[n]."""
    column = item_column(histories, items)
    use = (histories.occurred_at < cut) & (histories.types == PURCHASE) & (column >= 0)
    age = np.full(len(items), -1.0)
    np.maximum.at(age, column[use], (cut - histories.occurred_at[use]) / MICROS_A_DAY)
    return np.where(age < 0, np.nan, age)


def _by_listing(article_ids: list[str]) -> Callable[[Floats], Floats]:
    """Sums over the neighbours in the order of ids, a neighbour d places away counting exp(-d / NEIGHBOURS).

    Shorter ids come first, so numbers without leading zeros are in their order too. Where ids are drawn at random the
    neighbours say nothing, and their rates stay near the catalogue's.
    """
    order = np.array(
        sorted(range(len(article_ids)), key=lambda row: (len(article_ids[row]), article_ids[row])), np.int64
    )
    kernel = np.exp(-np.abs(np.arange(-_REACH, _REACH + 1)) / NEIGHBOURS)

    def gather(values: Floats) -> Floats:
        out = np.empty_like(values)
        out[order] = np.convolve(values[order], kernel)[_REACH : _REACH + len(values)]
        return out

    return gather


def _by_kind(items: ItemTable) -> Callable[[Floats], Floats]:
    """Sums over the articles of the same department, subcategory and brand."""
    columns = np.stack([items.codes[name] for name in KIND], axis=1)
    kind = np.unique(columns, axis=0, return_inverse=True)[1].ravel()
    return lambda values: np.asarray(np.bincount(kind, values)[kind], np.float64)
