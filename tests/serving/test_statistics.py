"""Statistics of the shop: kept on disk, checked when read."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from infra.errors import BundleError
from serving.statistics import ItemStatistics
from tests.support.toy_catalog import N, statistics


def test_comes_back_from_disk(tmp_path: Path) -> None:
    written = statistics()
    written.save(tmp_path / "statistics.npz")
    read = ItemStatistics.load(tmp_path / "statistics.npz", N)
    assert read.segments == ["all", "young"]
    for field in fields(ItemStatistics)[1:]:
        np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name))


def test_a_bundle_that_does_not_count_the_buyers_of_a_segment_knows_of_none(tmp_path: Path) -> None:
    written = statistics()
    arrays = {f.name: getattr(written, f.name) for f in fields(ItemStatistics)[1:] if f.name != "segment_buyers"}
    np.savez(tmp_path / "statistics.npz", segments=np.array(written.segments), **arrays)
    read = ItemStatistics.load(tmp_path / "statistics.npz", N)
    np.testing.assert_array_equal(read.segment_buyers, np.zeros((2, N)))


def test_unknown_segment_is_everybody() -> None:
    known = statistics()
    assert [known.segment_of(name) for name in ("young", "all", "old", None)] == [1, 0, 0, 0]


def test_missing_array_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "statistics.npz", segments=np.array(["all"]), sold_7d=np.ones(N, np.float32))
    with pytest.raises(
        BundleError, match=r"statistics.npz lacks sold_1d, sold_3d, sold_28d, .*first_sold, .*price_7d, .*top"
    ):
        ItemStatistics.load(tmp_path / "statistics.npz", N)


@pytest.mark.parametrize(
    "name", ["sold_1d", "sold_7d", "interval", "first_sold", "price_7d", "debut", "segment_share", "segment_buyers"]
)
def test_array_of_other_items_is_refused(tmp_path: Path, name: str) -> None:
    known = statistics()
    replace(known, **{name: getattr(known, name)[..., :-1]}).save(tmp_path / "statistics.npz")
    with pytest.raises(BundleError, match=rf"statistics.npz: {name} counts 7 items, items.parquet 8"):
        ItemStatistics.load(tmp_path / "statistics.npz", N)


@pytest.mark.parametrize("name", ["segment_share", "segment_buyers", "top"])
def test_rows_that_are_not_the_segments_are_refused(tmp_path: Path, name: str) -> None:
    known = statistics()
    replace(known, **{name: getattr(known, name)[:1]}).save(tmp_path / "statistics.npz")
    with pytest.raises(BundleError, match=rf"{name} has shape \(1, \d+\), .* each of the 2 segments all, young"):
        ItemStatistics.load(tmp_path / "statistics.npz", N)
    replace(known, segments=[]).save(tmp_path / "statistics.npz")
    with pytest.raises(BundleError, match="names no segment; the first must be 'all'"):
        ItemStatistics.load(tmp_path / "statistics.npz", N)


def test_popular_row_outside_the_items_is_refused(tmp_path: Path) -> None:
    replace(statistics(), top=np.array([[0, N], [0, 1]])).save(tmp_path / "statistics.npz")
    with pytest.raises(BundleError, match=r"statistics.npz: top names row 8 of 8 items"):
        ItemStatistics.load(tmp_path / "statistics.npz", N)
    replace(statistics(), top=np.array([[0, -1], [0, 1]])).save(tmp_path / "statistics.npz")
    with pytest.raises(BundleError, match=r"statistics.npz: top names row -1 of 8 items"):
        ItemStatistics.load(tmp_path / "statistics.npz", N)
