"""Final order: best score first, ties by row so that the order never depends on the machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from serving.retrieval.candidates import Floats


def order(scores: Floats, rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    """Places of the best k candidates, int64[<= k]."""
    return np.lexsort((rows, -scores.astype(np.float64)))[:k]
