"""What a run leaves for the next one: its networks, and how they are put onto another catalogue.

A later run may take them as they are (a light build: new counts, factors and index around the same networks) or train
on from them. Rows of a table follow their article or attribute value; what is new has none, as an article without its
id has in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from infra.errors import DataError
from offline.examples import Examples
from offline.models.two_tower import TwoTower
from offline.ranker_checkpoint import load_rankers
from offline.rankers import Rankers
from offline.shop import Shop
from offline.weights import load_examples, read_arrays
from serving.items import ATTRIBUTES, ItemTable
from streams.bundle_contract import feature_hash

_NOTE, _ITEMS, _CONTENT = "networks.json", "items.parquet", "content.npy"


class NetworksNote(msgspec.Struct, frozen=True):
    """cuts: microseconds at which tower-0.npz, tower-1.npz, ... were trained, the last one the data cut. features:
    what the ranker reads. learned_at: seconds since 1970."""

    cuts: list[int]
    features: str
    learned_at: float


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of a finished run in `directory`, over the articles `items`."""

    directory: Path
    note: NetworksNote
    items: ItemTable

    def rankers(self) -> tuple[Rankers, Examples]:
        """The trained rankers and the examples they learned from.

        Raises:
            DataError: they are not there any more.
        """
        rankers = load_rankers(self.directory)
        weeks = len(self.note.cuts) - 1
        found = (load_examples(self.directory / f"examples-{n}.npz") for n in range(weeks))
        whole = [part for part in found if part is not None]
        if rankers is None or not whole or len(whole) < weeks:
            raise DataError("its ranker or examples are gone; let a run train again", file=str(self.directory))
        return rankers, Examples.drain(whole)

    def content(self, items: ItemTable, fresh: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Content vectors float32[n, c] of `items` in the space that the networks know.

        A projection that is fitted to another catalogue turns the space a little. Articles of the earlier run keep
        their vectors; those of new articles are turned back by the map that does so best for the others.

        Args:
            fresh: float32[n, c] as the present catalogue gives them.

        Raises:
            DataError: they have another length.
        """
        held: npt.NDArray[np.float32] = np.load(self.directory / _CONTENT, allow_pickle=False).astype(np.float32)
        if held.shape[1:] != fresh.shape[1:]:
            raise DataError(f"content vectors have length {fresh.shape[1]}, the earlier networks know {held.shape[1]}")
        rows = np.array([self.items.index.get(article, -1) for article in items.article_ids], np.int64)
        known = rows >= 0
        if known.all():
            return np.asarray(held[rows], np.float32)
        turn = np.linalg.lstsq(fresh[known], held[rows[known]], rcond=None)[0]
        turned = fresh @ turn
        norms = np.linalg.norm(turned, axis=1, keepdims=True)
        turned = np.where(norms > 0, turned / np.maximum(norms, 1e-12), 0.0)
        turned[known] = held[rows[known]]
        return turned.astype(np.float16).astype(np.float32)

    def put_tower(self, model: TwoTower, items: ItemTable, before: int | None = None) -> bool:
        """Fill the model, made for `items`, with the newest tower that was trained at or before `before`
        (microseconds; None: with the last one). False, and nothing changed, where there is none that fits.
        """
        trained = [n for n, cut in enumerate(self.note.cuts) if before is None or cut <= before]
        held = read_arrays(self.directory / f"tower-{trained[-1]}.npz") if trained else None
        if held is None:
            return False
        wanted = model.state_dict()
        if held.keys() != wanted.keys():
            return False
        filled = {name: self._onto(name, held[name], wanted[name].numpy(), items) for name in wanted}
        if any(filled[name].shape != tuple(wanted[name].shape) for name in wanted):
            return False
        model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in filled.items()})
        return True

    def _onto(
        self, name: str, held: npt.NDArray[np.float32], made: npt.NDArray[np.float32], items: ItemTable
    ) -> npt.NDArray[np.float32]:
        if name == "item_encoder.ids.weight":
            rows = [self.items.index.get(article, -1) for article in items.article_ids]
            return _rows(held, rows, np.zeros(made.shape[1], np.float32))
        if name.startswith("item_encoder.attributes."):
            attribute = ATTRIBUTES[int(name.split(".")[2])]
            known = {label: code + 1 for code, label in enumerate(self.items.labels[attribute])}
            # Row 0 is the missing value, and stands for one that training has not seen.
            return _rows(held, [0, *(known.get(label, 0) for label in items.labels[attribute])], held[0])
        return held


def leave_networks(directory: Path, shop: Shop, cuts: list[int], learned_at: float) -> None:
    """Say that the networks in `directory` are whole."""
    pq.write_table(shop.items_table, directory / _ITEMS)
    np.save(directory / _CONTENT, shop.content.astype(np.float16))
    aside = directory / f".{_NOTE}"
    aside.write_bytes(msgspec.json.encode(NetworksNote(cuts, feature_hash(), learned_at)))
    aside.rename(directory / _NOTE)


def networks_in(directory: Path) -> Networks | None:
    """The networks a run left in `directory`; None where there are none, or for another code's features."""
    try:
        note = msgspec.json.decode((directory / _NOTE).read_bytes(), type=NetworksNote)
    except (OSError, msgspec.MsgspecError):
        return None
    if note.features != feature_hash() or not (directory / _ITEMS).exists():
        return None
    return Networks(directory, note, ItemTable.from_table(pq.read_table(directory / _ITEMS)))


def newest_networks(workdir: Path) -> Networks | None:
    """The networks that were learned last among the runs below `workdir`."""
    found = [networks for path in sorted(workdir.glob("*/" + _NOTE)) if (networks := networks_in(path.parent))]
    return max(found, key=lambda networks: networks.note.learned_at, default=None)


def _rows(
    held: npt.NDArray[np.float32], rows: list[int], otherwise: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Rows of `held`, and `otherwise` for -1."""
    return np.stack([held[row] if row >= 0 else otherwise for row in rows])
