"""The ranker of a bundle on ONNX Runtime: features in, one score a task out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from infra.errors import BundleError
from serving.features import FEATURES
from serving.retrieval.candidates import Floats
from streams.encoder import onnx_session

TASKS = ("purchase", "spend")


class Ranker:
    """MMOE with the tasks `purchase` (probability within the horizon) and `spend` (log1p of the amount)."""

    def __init__(self, path: Path) -> None:
        self._session = onnx_session(str(path))
        width = self._session.get_inputs()[0].shape[1]
        if width != len(FEATURES):
            raise BundleError(f"{path.name} takes {width} features; this code builds {len(FEATURES)}")

    def score(self, features: Floats) -> Floats:
        """float32[C, F] -> float32[C, len(TASKS)]."""
        if not len(features):
            return np.empty((0, len(TASKS)), np.float32)
        (scores,) = self._session.run(None, {"features": np.ascontiguousarray(features)})
        return np.asarray(scores, np.float32)
