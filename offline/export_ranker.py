"""The ranker leaves as ONNX: `features` float32[C, F] -> `scores` float32[C, T], whose column 0 ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from offline.export import export_network
from offline.models.mmoe import MMOE, MMOEScorer


def export_ranker(model: MMOE, path: Path, sample: npt.NDArray[np.float32]) -> float:
    """Write the ranker; returns the largest difference to torch on `sample` float32[n, F].

    Raises:
        GateError: it differs by more than offline.export.TOLERANCE.
    """
    rows = sample if len(sample) > 1 else np.zeros((2, model.config.n_features), np.float32)
    return export_network(MMOEScorer(model).eval(), (torch.from_numpy(rows),), ("features",), path)
