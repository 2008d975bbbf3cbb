"""Ranking metrics, list by list. Pure functions; the mean over customers is taken by the caller.

`hits`: bool[..., k], whether the article at each rank was bought, best first; a list shorter than the others is filled
with misses. `relevant`: int[...], how many distinct articles were bought, at least 1. Customers without a purchase in
the window are not evaluated (H&M Kaggle's rule for MAP@12).

Beyond hits: what a shop shows as a whole (`coverage`, `gini`) and how surprising and how mixed a list is
(`novelty`, `diversity`). They take `shown`: int64[n, k] rows of the catalogue, -1 where a list has ended.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hits = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def average_precision(hits: Hits, relevant: npt.ArrayLike, k: int = 12) -> Floats:
    """AP@k = sum of precision at each hit / min(relevant, k)  (Kaggle, H&M Personalized Fashion Recommendations).

    >>> average_precision(np.array([[True, False, True]]), relevant=[2], k=12).tolist()
    [0.8333333333333333]
    """
    hits = hits[..., :k]
    precision = np.cumsum(hits, axis=-1) / np.arange(1, hits.shape[-1] + 1)
    return np.asarray((precision * hits).sum(axis=-1) / np.minimum(relevant, k))


def recall(hits: Hits, relevant: npt.ArrayLike, k: int) -> Floats:
    """Share of the bought articles that stand in the first k.

    >>> recall(np.array([[True, False, True]]), relevant=[4], k=2).tolist()
    [0.25]
    """
    return np.asarray(hits[..., :k].sum(axis=-1) / np.asarray(relevant))


def precision(hits: Hits, k: int) -> Floats:
    """Share of the first k that was bought; places that stay empty count as not bought."""
    return np.asarray(hits[..., :k].sum(axis=-1) / k)


def hit_rate(hits: Hits, k: int) -> Floats:
    """1 if any of the first k was bought."""
    return np.asarray(hits[..., :k].any(axis=-1), np.float64)


def ndcg(hits: Hits, relevant: npt.ArrayLike, k: int) -> Floats:
    """Binary gain, log2 discount (Järvelin and Kekäläinen 2002, section 2).

    >>> ndcg(np.array([[False, True]]), relevant=[1], k=12).round(4).tolist()
    [0.6309]
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    hits = hits[..., :k]
    gained = (hits * discount[: hits.shape[-1]]).sum(axis=-1)
    return np.asarray(gained / np.cumsum(discount)[np.minimum(relevant, k) - 1])


def coverage(shown: Ints, n_items: int) -> float:
    """Share of the catalogue that at least one list shows.

    >>> coverage(np.array([[0, 1], [1, -1]]), n_items=4)
    0.5
    """
    return len(np.unique(shown[shown >= 0])) / n_items


def gini(shown: Ints, n_items: int) -> float:
    """Gini coefficient of how often each article of the whole catalogue is shown: 0 when all are shown equally
    often, towards 1 when one takes every place (Fleder and Hosanagar 2009, section 4).

    >>> gini(np.array([[0, 1], [2, 3]]), n_items=4), gini(np.array([[0], [0]]), n_items=4)
    (0.0, 0.75)
    """
    counts = np.sort(np.bincount(shown[shown >= 0], minlength=n_items)).astype(np.float64)
    if not counts.sum():
        return 0.0
    ranks = np.arange(1, n_items + 1)
    return float(2 * (ranks * counts).sum() / (n_items * counts.sum()) - (n_items + 1) / n_items)


def novelty(shown: Ints, share: Floats) -> Floats:
    """Mean self-information in bits of the articles of each list, float64[n]; nan for an empty one.

    Args:
        share: float64[n_items] in (0, 1], of the customers who had bought each article before the list was made
            (Zhou et al. 2010, PNAS 107, "surprisal").

    >>> novelty(np.array([[0, 1], [1, -1]]), share=np.array([0.5, 0.125])).tolist()
    [2.0, 3.0]
    """
    there = shown >= 0
    bits = np.where(there, -np.log2(share)[shown], 0.0)
    return _mean(bits.sum(axis=-1), there.sum(axis=-1))


def diversity(shown: Ints, groups: npt.NDArray[np.integer]) -> Floats:
    """Share of the pairs in each list whose articles are of different groups (categories, say), float64[n]: 1 minus
    the mean pairwise similarity when two articles are alike exactly if of one group (Ziegler et al. 2005).

    Args:
        groups: int[n_items]; -1, unknown, is unlike everything, itself too.

    Returns:
        nan for lists of fewer than two.

    >>> diversity(np.array([[0, 1, 2], [0, -1, -1]]), groups=np.array([5, 5, 7])).round(3).tolist()
    [0.667, nan]
    """
    there = shown >= 0
    group = np.where(there, groups[shown], -1)
    alike = (group[..., :, None] == group[..., None, :]) & (group >= 0)[..., :, None]
    same = alike.sum(axis=(-1, -2)) - (group >= 0).sum(axis=-1)
    size = there.sum(axis=-1)
    return 1 - _mean(same, size * (size - 1))


def dissimilarity(shown: Ints, vectors: npt.NDArray[np.floating]) -> Floats:
    """Mean of 1 - cosine over the pairs in each list (intra-list distance), float64[n]; nan for fewer than two.

    Args:
        vectors: float[n_items, d] unit rows.

    >>> vectors = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> dissimilarity(np.array([[0, 1], [0, 2], [1, -1]]), vectors).round(3).tolist()
    [0.4, 1.0, nan]
    """
    there = shown >= 0
    rows = np.where(there[..., None], vectors[shown], 0.0)
    size = there.sum(axis=-1)
    total = (rows.sum(axis=-2) ** 2).sum(axis=-1) - (rows**2).sum(axis=(-1, -2))
    return 1 - _mean(total, size * (size - 1))


def _mean(total: npt.NDArray[np.floating | np.integer], count: Ints) -> Floats:
    out = np.full(np.shape(count), np.nan)
    np.divide(total, count, out=out, where=count > 0)
    return out
