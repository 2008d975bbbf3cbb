"""What the shop as a whole did up to a cut: popularity, by segment too, repurchase habits and prices of each article.

Built offline from the event log (strictly before the cut), stored in the bundle, read by the popular source and the
features. Live customer state is never mixed in, so a bundle's statistics are as old as its `trained_through`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.errors import BundleError

Floats = npt.NDArray[np.float32]
ALL = "all"


@dataclass(frozen=True, eq=False)
class ItemStatistics:
    """Arrays over item_idx (n items), S segments; segment 0 is everybody.

    sold_1d .. sold_91d: float32[n] purchase lines in so many days before the cut · buyers_91d: float32[n] distinct
    customers · repeat_rate: float32[n] share of buyers who bought it again (smoothed) · interval: float32[n] mean days
    between two purchases of it by one customer, nan if never repeated · first_sold, last_sold: float32[n] days before
    the cut, below 1,000 however long ago, 1,000 if never · price_7d: float32[n] mean paid a piece in 7 days, nan if
    none · debut: float32[n] relative chance of a first purchase, 0 for articles that were sold before ·
    segment_share: float32[S, n] share of the segment's interest in 28 days, smoothed to everybody's ·
    segment_buyers: float32[S, n] distinct customers of a segment in 91 days; zeros where a bundle does not tell ·
    top: int64[S, K] most interest lately (sum of exp(-age / 4 days)) times the segment's lift, best first. Interest is
    of all acts: a purchase weighs 1, a cart and a view less (serving.history.INTEREST).
    """

    segments: list[str]
    sold_1d: Floats
    sold_3d: Floats
    sold_7d: Floats
    sold_28d: Floats
    sold_91d: Floats
    buyers_91d: Floats
    repeat_rate: Floats
    interval: Floats
    first_sold: Floats
    last_sold: Floats
    price_7d: Floats
    debut: Floats
    segment_share: Floats
    segment_buyers: Floats
    top: npt.NDArray[np.int64]

    def segment_of(self, name: str | None) -> int:
        """Row of a segment; everybody for an unknown one."""
        return self.segments.index(name) if name in self.segments else 0

    def save(self, path: Path) -> None:
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "segments"}
        np.savez(path, segments=np.array(self.segments, dtype=np.str_), **arrays)

    @classmethod
    def load(cls, path: Path, n_items: int) -> ItemStatistics:
        """Read with pickle off.

        Raises:
            BundleError: an array is missing or not of `n_items`, rows are not one a segment, or `top` names a row
                beyond the items.
        """
        with np.load(path, allow_pickle=False) as stored:
            missing = [f.name for f in fields(cls) if f.name not in (*stored.files, "segment_buyers")]
            if missing:
                raise BundleError(f"{path.name} lacks {', '.join(missing)}")
            values = {f.name: stored[f.name] for f in fields(cls) if f.name in stored.files}
            values.setdefault("segment_buyers", np.zeros_like(values["segment_share"]))
        segments = [str(name) for name in values.pop("segments")]
        if not segments:
            raise BundleError(f"{path.name}: names no segment; the first must be {ALL!r}")
        for name, array in values.items():
            if name != "top" and array.shape[-1:] != (n_items,):
                given = array.shape[-1] if array.ndim else "no"
                raise BundleError(f"{path.name}: {name} counts {given} items, items.parquet {n_items}")
        for name in ("segment_share", "segment_buyers", "top"):
            if values[name].ndim != 2 or len(values[name]) != len(segments):
                raise BundleError(
                    f"{path.name}: {name} has shape {values[name].shape}, expected one row for each of the "
                    f"{len(segments)} segments {', '.join(segments)}"
                )
        top = values["top"]
        if top.size and not 0 <= int(top.min()) <= int(top.max()) < n_items:
            wrong = top.max() if top.max() >= n_items else top.min()
            raise BundleError(f"{path.name}: top names row {wrong} of {n_items} items")
        return cls(segments=segments, **values)
