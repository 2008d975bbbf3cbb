"""What a search finds and what it costs: garments by a photo, articles by words, through the files of a bundle."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.bundle import open_bundle, write_manifest
from infra.clock import SystemClock
from offline.content.clip_report import pixel_vectors
from offline.content.encoders import Encoder
from offline.content.images import ImageStore
from offline.content.pairs import Garments
from offline.content.vectors import encode_photos
from offline.search_files import write_pictures
from serving.image_encoder import PictureSpace
from serving.items import ItemTable
from serving.pipeline import Pipeline
from serving.runtime import Runtime, load_runtime
from serving.search import Searcher
from serving.search_messages import ImageSearch, SearchResults, TextSearch

K = 12
DIM = 128  # as many directions as a bundle keeps
PAIRS = 100  # kinds of articles that are asked for by words
MIN_ARTICLES = 2 * K  # of a kind, so that a whole list of it can be shown
WARM_UP = 5

Floats = npt.NDArray[np.float32]


class _ByNumber:
    """Garments as the photos of articles that are numbered."""

    def __init__(self, garments: Garments) -> None:
        self._files = garments.files

    def get(self, article_id: str) -> bytes | None:
        return self._files[int(article_id)]


def photo_search(encoder: Encoder, catalogue: Garments, held_out: Garments, cache: Path) -> dict[str, Any]:
    """precision@12 by class: held-out photos, each a query against a catalogue of others' photos.

    Three ways to the twelve: the vectors of a bundle made of the catalogue, plain pixels (the colours of the squashed
    picture less their mean, by cosine), and any twelve.
    """
    store: ImageStore = _ByNumber(catalogue)
    photos = encode_photos([str(number) for number in range(len(catalogue.files))], store, encoder, cache)
    with tempfile.TemporaryDirectory(prefix="modiste-search-") as folder:
        space = _space(Path(folder), photos, encoder)
        seen = np.stack([space(content) for content in held_out.files]) @ space.articles.T
    known, mean = pixel_vectors(catalogue.files)
    pixels = pixel_vectors(held_out.files, mean)[0] @ known.T
    share = np.bincount(catalogue.labels, minlength=len(catalogue.names)) / len(catalogue.labels)
    by_query = {
        encoder.name: _hits(seen, catalogue.labels, held_out.labels),
        "pixels": _hits(pixels, catalogue.labels, held_out.labels),
        "random": share[held_out.labels],
    }
    return {
        "encoder": space.encoder,
        "catalogue": len(catalogue.files),
        "queries": len(held_out.files),
        "precision@12": _means(by_query, np.ones(len(held_out.labels), np.bool_)),
        "by_class": {
            name: {"queries": int((held_out.labels == label).sum())} | _means(by_query, held_out.labels == label)
            for label, name in enumerate(held_out.names)
            if (held_out.labels == label).any()
        },
    }


def _space(folder: Path, photos: Floats, encoder: Encoder) -> PictureSpace:
    """As a bundle carries it and serving opens it."""
    write_pictures(folder, photos, encoder, DIM)
    now = datetime.now(UTC)
    write_manifest(folder, created_at=now, trained_through=now, config={}, contracts={}, counts={}, metrics={})
    return PictureSpace.load(open_bundle(folder), len(photos))


def _hits(scores: Floats, labels: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """float64[q]: share of the K best of each query that have its label."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return np.asarray((labels[best] == wanted[:, None]).mean(axis=1), np.float64)


def _means(by_query: dict[str, npt.NDArray[np.float64]], chosen: npt.NDArray[np.bool_]) -> dict[str, float]:
    return {name: round(float(values[chosen].mean()), 4) for name, values in by_query.items()}


def open_searcher(directory: Path) -> Searcher:
    """Of a bundle on disk, everything to be had at the bundle's prices."""
    runtime = load_runtime(open_bundle(directory))
    return Searcher(runtime, Pipeline(runtime, SystemClock()))


def text_search(searcher: Searcher, weights: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> dict[str, Any]:
    """precision@12 of queries such as "black trousers", the commonest pairs of colour and kind, by meaning_weight."""
    items = searcher.runtime.items
    asked = common_kinds(items)
    found = {}
    for weight in weights:
        right = []
        for colour, kind in asked:
            search = TextSearch(
                search_id="bench", query=f"{colour} {kind}", k=K, taste_weight=0.0, meaning_weight=weight
            )
            rows = [items.index[item.article_id] for item in searcher.by_text(search, None).items]
            same = [items.label("colour", row) == colour and items.label("subcategory", row) == kind for row in rows]
            right.append(sum(same) / K)
        found[f"meaning {weight:g}"] = round(float(np.mean(right)), 4)
    return {"queries": len(asked), "articles": len(items), "precision@12": found}


def common_kinds(items: ItemTable) -> list[tuple[str, str]]:
    """Pairs of colour and subcategory with at least MIN_ARTICLES articles, the commonest first."""
    pairs = Counter(zip(items.codes["colour"].tolist(), items.codes["subcategory"].tolist(), strict=True))
    return [
        (items.labels["colour"][colour], items.labels["subcategory"][kind])
        for (colour, kind), number in pairs.most_common(PAIRS)
        if number >= MIN_ARTICLES and min(colour, kind) >= 0
    ]


def search_latency(searcher: Searcher, photo: bytes | None, rounds: int) -> dict[str, Any]:
    """Milliseconds of one search after another on one thread, of a stranger and with taste by what sells."""
    asked = [f"{colour} {kind}" for colour, kind in common_kinds(searcher.runtime.items)]

    def by_text(turn: int) -> SearchResults:
        return searcher.by_text(TextSearch(search_id="bench", query=asked[turn % len(asked)]), None)

    def by_image(_: int) -> SearchResults:
        return searcher.by_image(ImageSearch(search_id="bench"), photo or b"", None)

    found = {"text": _timed(by_text, rounds)} if asked else {}
    if photo is not None and _has_photos(searcher.runtime):
        found["image"] = _timed(by_image, rounds)
    return {"articles": len(searcher.runtime.items), "rounds": rounds, "ms": found}


def _has_photos(runtime: Runtime) -> bool:
    return "image_vectors.npy" in runtime.manifest.files


def _timed(search: Callable[[int], SearchResults], rounds: int) -> dict[str, float]:
    spent = []
    for turn in range(rounds + WARM_UP):
        started = time.perf_counter()
        search(turn)
        spent.append((time.perf_counter() - started) * 1e3)
    p50, p99 = np.percentile(spent[WARM_UP:], [50, 99])
    return {"first": round(spent[0], 2), "p50": round(float(p50), 2), "p99": round(float(p99), 2)}
