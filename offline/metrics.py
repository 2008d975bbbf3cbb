"""Ranking metrics over one customer's list. Pure functions; the mean over customers is taken by the caller.

`hits`: bool[k], whether the article at each rank was bought, best first. `relevant`: how many distinct articles were
bought. Customers without a purchase in the window are not evaluated (H&M Kaggle's rule for MAP@12).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hits = npt.NDArray[np.bool_]


def average_precision(hits: Hits, relevant: int, k: int = 12) -> float:
    """AP@k = sum of precision at each hit / min(relevant, k)  (Kaggle, H&M Personalized Fashion Recommendations).

    >>> average_precision(np.array([True, False, True]), relevant=2, k=12)
    0.8333333333333333
    """
    hits = hits[:k]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / min(relevant, k))


def recall(hits: Hits, relevant: int, k: int) -> float:
    """Share of the bought articles that stand in the first k.

    >>> recall(np.array([True, False, True]), relevant=4, k=2)
    0.25
    """
    return float(hits[:k].sum() / relevant)


def hit_rate(hits: Hits, k: int) -> float:
    """1 if any of the first k was bought."""
    return float(hits[:k].any())


def ndcg(hits: Hits, relevant: int, k: int) -> float:
    """Binary gain, log2 discount (Järvelin and Kekäläinen 2002, section 2).

    >>> round(ndcg(np.array([False, True]), relevant=1, k=12), 4)
    0.6309
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    gained = float((hits[:k] * discount[: len(hits[:k])]).sum())
    return gained / float(discount[: min(relevant, k)].sum())
