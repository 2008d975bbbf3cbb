"""The query encoder while it is still a torch module: for examples at past cuts, which no bundle will carry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from offline.models.two_tower import TwoTower
from streams.encoder import EncoderInput, QueryEncoder


class TrainedEncoder(QueryEncoder):
    """As the bundle's encoder, to within what the export is allowed to differ (offline.export.TOLERANCE). An export
    takes seconds, which each of the weeks that the ranker learns from would pay again."""

    def __init__(
        self, tower: TwoTower, item_vectors: npt.NDArray[np.float32], index: Mapping[str, int], space: str
    ) -> None:
        self._network = tower.query_encoder
        self._item_vectors = item_vectors
        self._index = index
        self.space = space
        self.dim = int(item_vectors.shape[1])

    def run(self, inputs: EncoderInput) -> npt.NDArray[np.float32]:
        self._network.eval()
        with torch.no_grad():
            vectors = self._network(
                torch.from_numpy(self._item_vectors[inputs.item_idx]),
                torch.from_numpy(inputs.gaps),
                torch.from_numpy(inputs.mask),
            )
        return np.array(vectors.numpy(), np.float32)
