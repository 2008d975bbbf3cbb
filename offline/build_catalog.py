"""What a bundle built at a cut would hold, without its ranker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from offline.build_covisitation import build_neighbours
from offline.build_statistics import build_statistics
from offline.train_collaborative import CollaborativeConfig, train_collaborative
from serving.index import VectorIndex
from serving.items import ItemTable
from serving.runtime import DEFAULT_RETRIEVAL, Catalog, RetrievalConfig
from streams.encoder import QueryEncoder
from streams.histories import Histories


@dataclass(frozen=True)
class CatalogConfig:
    collaborative: CollaborativeConfig = field(default_factory=CollaborativeConfig)
    retrieval: RetrievalConfig = DEFAULT_RETRIEVAL


@dataclass(frozen=True, eq=False)
class Vectors:
    """Of the articles: two-tower float32[n, d] with the encoder of the same space, content float32[n, c]."""

    tower: npt.NDArray[np.float32]
    encoder: QueryEncoder
    content: npt.NDArray[np.float32]


def catalog_at(
    histories: Histories,
    items: ItemTable,
    segments: Mapping[str, str],
    cut: int,
    vectors: Vectors,
    config: CatalogConfig,
    *,
    seed: int,
) -> Catalog:
    """Count and factorise what happened strictly before `cut` (microseconds)."""
    return Catalog(
        items=items,
        statistics=build_statistics(histories, items, dict(segments), cut),
        encoder=vectors.encoder,
        index=VectorIndex.build(vectors.tower),
        vectors=vectors.tower,
        neighbours=build_neighbours(histories, items, cut),
        factors=train_collaborative(histories, items, cut, config.collaborative, seed=seed),
        content=vectors.content,
        segments=dict(segments),
        retrieval=config.retrieval,
    )
