"""The files of a bundle by which it can be searched (serving/searchable.py): words, and the encoders of queries.

An exported text encoder is the same for every bundle of its encoder, so it is kept beside the content cache.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from offline.content.encoders import Encoder, open_encoder
from offline.content.projection import fit_projection
from offline.content.texts import article_parts
from offline.content.vectors import ContentConfig
from offline.shop import Shop
from serving.content_space import space_name
from serving.image_encoder import NETWORK as IMAGE_NETWORK
from serving.image_encoder import VECTORS, save_picture_space
from serving.searchable import WORD_INDEX
from serving.text_encoder import NETWORK, PIECES, WORDS
from serving.word_index import WordIndex, weighted_words

PAIRS = 100_000  # random pairs of photos, whose cosines say what is near
NEAR = 0.95  # share of them that are less alike than what a search shows


def write_search_files(directory: Path, shop: Shop, config: ContentConfig, cache: Path) -> dict[str, Any]:
    """Write them into a bundle in the making; returns what was found out.

    Raises:
        ConfigurationError: what looked at the photos cannot be carried by a bundle.
        GateError: an exported network differs from the encoder's own.
    """
    index = index_words(shop.articles)
    index.save(directory / WORD_INDEX)
    facts: dict[str, Any] = {"words": len(index.vocabulary), "meaning": True, "photos": 0}
    if shop.space.encoder != WORDS:
        facts["meaning"] = _write_text_encoder(directory, shop.space.encoder, config, cache)
    if shop.photos is not None and shop.photos.any() and config.image is not None:
        encoder = open_encoder(config.image, config.max_tokens)
        facts |= write_pictures(directory, shop.photos, encoder, config.dim)
    return facts


def index_words(articles: pa.Table) -> WordIndex:
    """What the articles of ARTICLE_SCHEMA say, in their order."""
    return WordIndex.build(weighted_words(parts) for parts in zip(*article_parts(articles), strict=True))


def write_pictures(directory: Path, photos: npt.NDArray[np.float32], encoder: Encoder, dim: int) -> dict[str, Any]:
    """Write the three files of serving/image_encoder.py from photos float32[n, d] as `encoder` saw them; as with
    content vectors, only the `dim` directions are kept in which they differ most."""
    from offline.content.export import export_image_encoder

    preparation = export_image_encoder(encoder, directory / IMAGE_NETWORK)
    projection = fit_projection(photos, dim)
    vectors = projection(photos).astype(np.float16)
    np.save(directory / VECTORS, vectors)
    threshold = near(vectors.astype(np.float32))
    name = space_name(encoder.name, encoder.revision)
    save_picture_space(directory, name, preparation, projection, threshold)
    return {"photos": int(photos.any(axis=1).sum()), "image_encoder": name, "image_threshold": round(threshold, 4)}


def near(vectors: npt.NDArray[np.float32]) -> float:
    """Cosine that the share NEAR of random pairs of the rows that are not zero does not reach."""
    some = np.flatnonzero(vectors.any(axis=1))
    if len(some) < 2:
        return 0.0
    draw = np.random.default_rng(7)
    first = draw.integers(len(some), size=PAIRS)
    second = (first + draw.integers(1, len(some), size=PAIRS)) % len(some)  # never itself
    return float(np.quantile(np.einsum("nd,nd->n", vectors[some[first]], vectors[some[second]]), NEAR))


def _write_text_encoder(directory: Path, space: str, config: ContentConfig, cache: Path) -> bool:
    """False where the encoder cannot leave torch; bundles are then searched by words alone."""
    kept = cache / "exported" / space
    if not (kept / PIECES).is_file():
        from offline.content.export import export_text_encoder

        kept.mkdir(parents=True, exist_ok=True)
        aside = kept / f"{NETWORK}.part"
        if not export_text_encoder(open_encoder(config.text, config.max_tokens), aside, kept / f"{PIECES}.part"):
            return False
        aside.replace(kept / NETWORK)
        (kept / f"{PIECES}.part").replace(kept / PIECES)
    for name in (NETWORK, PIECES):
        shutil.copyfile(kept / name, directory / name)
    return True
