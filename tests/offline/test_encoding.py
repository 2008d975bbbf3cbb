"""The network's view of features: bounded, and bending where the quantiles lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offline.models.encoding import CLAMP, Bins, FeatureEncoding


def test_bins_are_quantiles_of_columns_that_bend() -> None:
    features = np.stack([np.arange(101.0), np.tile([0.0, 1.0], 51)[:101], np.full(101, 7.0)], axis=1).astype(np.float32)
    bins = Bins.of(features, 4)
    assert bins.column.tolist() == [0] * 4  # a switch and a constant need none
    assert bins.low.tolist() == [0, 25, 50, 75]
    assert bins.width.tolist() == [25] * 4
    assert len(Bins.of(features[:0], 4)) == 0


def test_equal_quantiles_become_one_bin() -> None:
    features = np.concatenate([np.zeros(70), np.arange(1.0, 31.0)]).astype(np.float32)[:, None]
    bins = Bins.of(features, 10)
    assert bins.low[0] == 0
    assert (bins.width > 0).all()
    assert len(bins) == 4  # quantiles 0 to 0.6 are one edge, 0.7 to 1 four more


def test_what_comes_in_stays_bounded_and_a_constant_cannot_blow_up() -> None:
    rng = np.random.default_rng(1)
    features = np.stack([rng.normal(5, 3, 500), np.full(500, 7.0)], axis=1).astype(np.float32)
    bins = Bins.of(features, 8)
    encoding = FeatureEncoding(2, len(bins), 6)
    encoding.fit(features, bins)
    rows = torch.tensor([[1e9, 1e9], [-1e9, -1e9], [5.0, 7.0]])
    with torch.no_grad():
        out = encoding(rows)
        assert out.shape == (3, 2 + 6)
        assert torch.isfinite(out).all()
        assert encoding.standardise(rows).abs().max() <= CLAMP
    middle = encoding.standardise(torch.from_numpy(features)).mean(dim=0).tolist()
    assert middle == pytest.approx([0.0, 0.0], abs=1e-4)


def test_without_bins_it_standardises_only() -> None:
    encoding = FeatureEncoding(3, 0, 6)
    assert encoding.out_features == 3
    assert torch.equal(encoding(torch.ones(2, 3)), encoding.standardise(torch.ones(2, 3)))
