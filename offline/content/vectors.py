"""Content vectors of a whole catalogue: encoded once, fused, and reduced to what serving can scan in every request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ConfigurationError
from offline.content.cache import VectorCache
from offline.content.encoders import Encoder, open_encoder, text_only
from offline.content.images import ImageStore
from offline.content.projection import fit_projection
from offline.content.texts import article_parts
from offline.progress import step
from serving.article_texts import PARTS
from serving.content_space import ContentSpace, space_name, unit_rows

# Photos are read and hashed by so many at a time, so that a directory of a hundred thousand never lies in memory.
_PHOTOS = 1_024


@dataclass(frozen=True)
class ContentConfig:
    """text, image: names for `encoders.open_encoder`; image None leaves photos aside · image_weight: the photo's share
    of an article that has both, between 0 and 1 · max_tokens: where each part of a text is cut · dim: dimensions of
    the result.
    """

    text: str = "auto"
    image: str | None = None
    image_weight: float = 0.5
    max_tokens: int = 32
    dim: int = 128

    def __post_init__(self) -> None:
        if not 0 <= self.image_weight <= 1:
            raise ConfigurationError(f"image_weight is a share between 0 and 1, given {self.image_weight}")
        if self.dim < 1 or self.max_tokens < 1:
            raise ConfigurationError(f"dim and max_tokens are at least 1, given {self.dim} and {self.max_tokens}")


def content_vectors(
    articles: pa.Table, images: ImageStore | None, config: ContentConfig, cache: Path
) -> npt.NDArray[np.float32]:
    """Unit rows float32[n, d] in the order of `articles` (ARTICLE_SCHEMA), d <= config.dim, by cosine alike.

    Zero rows where an article has neither text nor a photo that can be read. `cache` is a directory of this function's
    own; a second call, also after a killed one, encodes only what is new.

    Raises:
        ConfigurationError: an encoder is unknown, not installed or not to be had.
    """
    return content_of(articles, images, config, cache).vectors


@dataclass(frozen=True, eq=False)
class Content:
    """vectors: float32[n, c] unit rows, zero where nothing is known · space: the map by which an article that comes
    later gets such a row from its text · photos: float32[n, d] unit rows of the image encoder, zero for an article
    without a photo; None where nothing looked at photos.
    """

    vectors: npt.NDArray[np.float32]
    space: ContentSpace
    photos: npt.NDArray[np.float32] | None = None


def content_of(articles: pa.Table, images: ImageStore | None, config: ContentConfig, cache: Path) -> Content:
    """The same, with what serving needs to find and to be asked for more."""
    text_encoder = open_encoder(config.text, config.max_tokens)
    text = encode_articles(articles, text_encoder, cache)
    name = space_name(text_encoder.name, text_encoder.revision)
    alone = np.empty(0, np.float32)
    if images is None or config.image is None:
        projection = fit_projection(text, config.dim)
        return Content(projection(text), ContentSpace(name, 1.0, alone, projection))
    one_space = config.image == config.text
    image_encoder = text_encoder if one_space else open_encoder(config.image, config.max_tokens)
    photo = encode_photos(articles["article_id"].to_pylist(), images, image_encoder, cache)
    fused = fuse(text, photo, config.image_weight, one_space=one_space)
    projection = fit_projection(fused, config.dim)
    if one_space:
        return Content(projection(fused), ContentSpace(name, 1.0, alone, projection), photo)
    beside = np.sqrt(config.image_weight) * _mean(photo, _known(photo))
    space = ContentSpace(name, float(np.sqrt(1 - config.image_weight)), beside.astype(np.float32), projection)
    return Content(projection(fused), space, photo)


def encode_articles(articles: pa.Table, encoder: Encoder, cache: Path) -> npt.NDArray[np.float32]:
    """float32[n, dim]: the weighted sum of the vectors of an article's parts (texts.PARTS) as a unit row."""
    out = np.zeros((articles.num_rows, encoder.dim), np.float32)
    for texts, (_, weight) in zip(article_parts(articles), PARTS, strict=True):
        out += weight * encode_texts(texts, encoder, cache)
    return unit_rows(out)


def encode_texts(texts: list[str], encoder: Encoder, cache: Path) -> npt.NDArray[np.float32]:
    """float32[n, dim]: unit rows, zero rows for empty texts. Equal texts are encoded once."""
    out = np.zeros((len(texts), encoder.dim), np.float32)
    rows = [row for row, text in enumerate(texts) if text]
    if not rows:
        return out
    store = VectorCache(cache, f"{encoder.name}-text", encoder.revision, encoder.dim)
    with step(f"texts ({encoder.name})", len(rows)) as progress:
        out[rows] = store.vectors(
            [texts[row].encode() for row in rows],
            lambda contents: encoder.encode_text([content.decode() for content in contents]),
            progress.advance,
        )
    return out


def encode_photos(article_ids: list[str], images: ImageStore, encoder: Encoder, cache: Path) -> npt.NDArray[np.float32]:
    """float32[n, dim]: unit rows, zero rows for articles without a photo or with one that cannot be read.

    Raises:
        ConfigurationError: the encoder reads no images.
    """
    if not encoder.sees_images:
        raise text_only(encoder.name)
    out = np.zeros((len(article_ids), encoder.dim), np.float32)
    store = VectorCache(cache, f"{encoder.name}-image", encoder.revision, encoder.dim)
    with step(f"photos ({encoder.name})", len(article_ids)) as progress:
        for start in range(0, len(article_ids), _PHOTOS):
            files = [images.get(article) for article in article_ids[start : start + _PHOTOS]]
            rows = [start + row for row, content in enumerate(files) if content is not None]
            contents = [content for content in files if content is not None]
            out[rows] = store.vectors(contents, encoder.encode_image, progress.advance)
            progress.advance(len(files) - len(contents), _unreadable(out[rows]))
    return out


def fuse(
    text: npt.NDArray[np.float32], photo: npt.NDArray[np.float32], image_weight: float, *, one_space: bool
) -> npt.NDArray[np.float32]:
    """Text and photo as one unit vector; the one that there is where the other is missing.

    In one space (CLIP): the weighted sum. In two spaces (a sentence encoder and CLIP's photos): side by side, each
    scaled by the root of its weight, so that the cosine of two articles is the weighted mean of the cosines of their
    texts and of their photos. The missing half of an article without a photo is the mean photo: with zeros there,
    articles without photos would gather in a corner of their own.
    """
    has_text, has_photo = _known(text), _known(photo)
    if one_space:
        both = has_text & has_photo
        mixed = np.where(both, (1 - image_weight) * text + image_weight * photo, text + photo)
        length = np.linalg.norm(mixed, axis=1, keepdims=True)
        return np.asarray(mixed / np.where(length > 0, length, 1), np.float32)
    parts = [
        np.sqrt(weight) * np.where(there, part, _mean(part, there))
        for part, there, weight in ((text, has_text, 1 - image_weight), (photo, has_photo, image_weight))
    ]
    known = np.logical_or(has_text, has_photo)
    return np.where(known, np.concatenate(parts, axis=1), 0).astype(np.float32)


def _unreadable(vectors: npt.NDArray[np.float32]) -> str:
    broken = int((~vectors.any(axis=1)).sum())
    return f"{broken} cannot be read" if broken else ""


def _known(part: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return np.asarray(part.any(axis=1, keepdims=True), np.bool_)


def _mean(part: npt.NDArray[np.float32], there: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    return np.asarray(part.sum(axis=0) / max(int(there.sum()), 1), np.float32)
