"""The ranker of a bundle on ONNX Runtime: features in, one score a task out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from infra.errors import BundleError
from serving.retrieval.candidates import Floats
from streams.bundle_contract import FEATURES
from streams.encoder import onnx_session


class Ranker:
    """Any graph `features` float32[C, F] -> `scores` float32[C, T]: the bundle says which tasks its columns are.
    Column 0 ranks: the probability of a purchase within the horizon, by a customer who buys anything in it. A graph
    may have a second output, `gates` float32[C, E]: how much each expert had to say of the purchase.

    Raises:
        BundleError: the graph takes other features, or gives another number of scores than there are tasks.
    """

    def __init__(self, path: Path, tasks: tuple[str, ...]) -> None:
        self._session = onnx_session(str(path))
        self.tasks = tasks
        width = self._session.get_inputs()[0].shape[1]
        if width != len(FEATURES):
            raise BundleError(f"{path.name} takes {width} features; this code builds {len(FEATURES)}")
        outputs = {output.name: output.shape[1] for output in self._session.get_outputs()}
        self.gated = "gates" in outputs
        given = outputs.get("scores")
        if not tasks or tasks[0] != "purchase" or given != len(tasks):
            raise BundleError(
                f"{path.name} gives {given} scores for the tasks {list(tasks)}; purchase must be the first"
            )

    def score(self, features: Floats) -> Floats:
        """float32[C, F] -> float32[C, len(tasks)]."""
        if not len(features):
            return np.empty((0, len(self.tasks)), np.float32)
        (scores,) = self._session.run(["scores"], {"features": np.ascontiguousarray(features)})
        return np.asarray(scores, np.float32)

    def explained(self, features: Floats) -> tuple[Floats, Floats | None]:
        """The same scores, and gates float32[C, E], each row of sum 1; None where the graph does not give them (trees
        have none, nor have bundles of before)."""
        if not self.gated or not len(features):
            return self.score(features), None
        scores, gates = self._session.run(["scores", "gates"], {"features": np.ascontiguousarray(features)})
        return np.asarray(scores, np.float32), np.asarray(gates, np.float32)
