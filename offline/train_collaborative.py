"""Train the collaborative factors: implicit-feedback ALS by the library `implicit`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from offline.histories import item_column
from serving.history import INTEREST
from serving.items import ItemTable
from serving.retrieval.collaborative import Factors
from streams.distinct import distinct
from streams.encoder import MICROS_A_DAY
from streams.histories import Histories


@dataclass(frozen=True)
class CollaborativeConfig:
    """Confidence of an article for a customer: `confidence` x sum of interest x exp(-age / interest_days)."""

    dim: int = 64
    iterations: int = 10
    confidence: float = 5.0
    regularization: float = 5.0
    interest_days: float = 60.0


def train_collaborative(
    histories: Histories, items: ItemTable, cut: int, config: CollaborativeConfig, *, seed: int
) -> Factors:
    """Article factors from events strictly before `cut` (microseconds); zero rows for articles nobody acted on."""
    n = len(items)
    column = item_column(histories, items)
    age = (cut - histories.occurred_at) / MICROS_A_DAY
    interest = INTEREST[histories.types] * np.exp(-age / config.interest_days)
    use = (age > 0) & (column >= 0)
    # Only customers who acted: one who comes later would draw other first factors for all.
    customers, customer = np.unique(histories.customer_rows[use], return_inverse=True)
    confidence = sparse.csr_matrix(
        (config.confidence * interest[use], (customer, column[use])),
        shape=(max(len(customers), 1), n),
        dtype=np.float32,
    )
    confidence.sum_duplicates()
    vectors = np.zeros((n, config.dim), np.float32)
    if confidence.nnz:
        known = distinct(confidence.indices)
        vectors[known] = _fit(confidence[:, known], config, seed)
    return Factors(vectors, config.confidence, config.regularization, config.interest_days)


def _fit(confidence: sparse.csr_matrix, config: CollaborativeConfig, seed: int) -> npt.NDArray[np.float32]:
    from implicit.cpu.als import AlternatingLeastSquares

    with warnings.catch_warnings():
        # It advises on the threads of a BLAS that it hardly uses at this size.
        warnings.simplefilter("ignore", RuntimeWarning)
        model = AlternatingLeastSquares(
            factors=config.dim,
            regularization=config.regularization,
            iterations=config.iterations,
            num_threads=1,  # sums in one order, so that two runs agree
            random_state=seed,
        )
    model.fit(confidence, show_progress=False)
    return np.asarray(model.item_factors, np.float32)
