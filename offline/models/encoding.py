"""Features as a network likes them: standardised and clamped, and beside that piecewise-linear over their quantiles.

The second half (Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022,
section 3.2) lets a small network bend where the data is dense, as trees do. It is part of the exported graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLAMP = 8.0
SAMPLE = 200_000

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Bins:
    """Bin i covers feature `column[i]` from `low[i]` over `width[i]` > 0; all of length K."""

    column: npt.NDArray[np.int64]
    low: Floats
    width: Floats

    @classmethod
    def of(cls, features: Floats, bins: int) -> Bins:
        """Quantile bins of each column that takes three values or more (two need no bending): at most `bins` each."""
        some = features[:: max(1, len(features) // SAMPLE)]
        columns: list[int] = []
        lows: list[float] = []
        widths: list[float] = []
        if len(some):
            for column, edges in enumerate(np.quantile(some, np.linspace(0, 1, bins + 1), axis=0).T):
                distinct = np.unique(edges.astype(np.float32))
                distinct = distinct[np.insert(np.diff(distinct) > 1e-6, 0, True)]
                if len(distinct) > 2:
                    columns += [column] * (len(distinct) - 1)
                    lows += distinct[:-1].tolist()
                    widths += np.diff(distinct).tolist()
        return cls(np.array(columns, np.int64), np.array(lows, np.float32), np.array(widths, np.float32))

    @classmethod
    def none(cls) -> Bins:
        return cls(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32))

    def __len__(self) -> int:
        return len(self.column)


class FeatureEncoding(nn.Module):
    """(B, F) raw features -> (B, F + projection): standardised, then a learned mix of the `n_bins` bins."""

    def __init__(self, n_features: int, n_bins: int, projection: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.column: Tensor
        self.low: Tensor
        self.width: Tensor
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))
        self.register_buffer("column", torch.zeros(n_bins, dtype=torch.int64))
        self.register_buffer("low", torch.zeros(n_bins))
        self.register_buffer("width", torch.ones(n_bins))
        self.mix = nn.Linear(n_bins, projection) if n_bins else None
        self.out_features = n_features + (projection if n_bins else 0)

    def fit(self, features: Floats, bins: Bins) -> None:
        """Take mean, spread and bins from float32[n, F] training rows."""
        with torch.no_grad():
            self.mean.copy_(torch.from_numpy(features.mean(axis=0)))
            # A feature that never varies would be blown up by its own rounding noise.
            spread = features.std(axis=0)
            self.std.copy_(torch.from_numpy(np.where(spread < 1e-4, 1.0, spread).astype(np.float32)))
            for name in ("column", "low", "width"):
                getattr(self, name).copy_(torch.from_numpy(getattr(bins, name)))

    def standardise(self, features: Tensor) -> Tensor:
        """(B, F), within CLAMP of 0 whatever comes in."""
        return ((features - self.mean) / self.std).clamp(-CLAMP, CLAMP)

    def forward(self, features: Tensor) -> Tensor:
        plain = self.standardise(features)
        if self.mix is None:
            return plain
        bent = ((features[:, self.column] - self.low) / self.width).clamp(0.0, 1.0)
        return torch.cat([plain, F.silu(self.mix(2.0 * bent - 1.0))], dim=1)
