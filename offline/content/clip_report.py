"""How well an encoder finds the text of a photo and the photos like a photo, beside plain pixels and beside text.

All on articles that the encoder has never seen, and none of their products' other colours either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.content.encoders import Encoder
from offline.content.pairs import Garments, Pairs, garment_caption, read_pixels
from offline.content.vectors import encode_texts
from serving.content_space import unit_rows

# The plain-pixel baseline: the squashed picture itself, small enough that a shift by a few pixels does little.
PIXELS_HIGH, PIXELS_WIDE = 24, 16
RIDGE = 100.0
AT = (1, 5, 10)
K = 12

Floats = npt.NDArray[np.float32]
Labels = Sequence[str] | npt.NDArray[np.int64]


def pixel_vectors(files: Sequence[bytes], mean: Floats | None = None) -> tuple[Floats, Floats]:
    """Unit rows float32[n, 1152] of the pictures' colours less `mean` (by default their own), and that mean."""
    flat = read_pixels(files, PIXELS_HIGH, PIXELS_WIDE).reshape(len(files), -1).astype(np.float32) / 255
    middle = np.asarray(flat.mean(axis=0), np.float32) if mean is None else mean
    return unit_rows(flat - middle), middle


def article_report(encoder: Encoder, text_encoder: Encoder, train: Pairs, test: Pairs, cache: Path) -> dict[str, Any]:
    """Image to text and image to image on H&M's held-out articles.

    The text baseline is `text_encoder` over the whole text; it reads the type and the product's name, which no photo
    shows. The pixels find texts through a ridge regression from pixels to that baseline's vectors, fitted on `train`.
    """
    photo, text = encoder.encode_image(test.files), encoder.encode_text(test.texts)
    told = encode_texts(test.texts, text_encoder, cache)
    pixels_train, mean = pixel_vectors(train.files)
    pixels, _ = pixel_vectors(test.files, mean)
    guessed = pixels @ ridge(pixels_train, encode_texts(train.texts, text_encoder, cache))
    images = {"clip photo": photo, "pixels": pixels, "text": told, "clip photo and text": unit_rows(photo + text)}
    types = test.articles["subcategory"].to_pylist()
    products = test.articles["product_code"].to_pylist()
    return {
        "articles": len(test),
        "texts": len(set(test.texts)),
        "image_to_text": {
            "clip": recall_of_own(photo, text, test.texts),
            "pixels": recall_of_own(guessed, told, test.texts),
            "chance": {f"r@{k}": round(k / len(set(test.texts)), 5) for k in AT},
        },
        "text_to_image": {"clip": recall_of_own(text, photo, test.texts)},
        "image_to_image": {
            f"same type, precision@{K}": compare(images, types),
            f"other colours of the product, precision@{K}": compare(images, products),
        },
    }


def garment_report(encoder: Encoder, test: Garments) -> dict[str, Any]:
    """Photos of the same class, and the class by its caption, on garments-cc0."""
    photo = encoder.encode_image(test.files)
    pixels, _ = pixel_vectors(test.files)
    captions = encoder.encode_text([garment_caption(name) for name in test.names])
    right = (photo @ captions.T).argmax(axis=1) == test.labels
    return {
        "photos": len(test.files),
        f"same class, precision@{K}": compare({"clip photo": photo, "pixels": pixels}, test.labels),
        "class by caption, accuracy": round(float(right.mean()), 4),
        "most frequent class": round(float(np.max(np.bincount(test.labels)) / len(test.labels)), 4),
    }


def recall_of_own(queries: Floats, answers: Floats, texts: Sequence[str]) -> dict[str, float]:
    """Share of queries whose own answer is among the first k. Articles of one text count as one: the best of them."""
    numbers = np.unique(np.asarray(texts, object), return_inverse=True)[1].ravel()
    scores = queries @ answers.T
    best = np.full((len(queries), int(np.max(numbers)) + 1), -np.inf, np.float32)
    np.maximum.at(best.T, numbers, scores.T)
    own = best[np.arange(len(queries)), numbers]
    rank = (best > own[:, None]).sum(axis=1)
    return {f"r@{k}": round(float((rank < k).mean()), 4) for k in AT}


def compare(vectors: Mapping[str, Floats], labels: Labels) -> dict[str, float]:
    """Precision of the nearest others by each kind of vector, and of others drawn at random."""
    found = {name: round(precision(rows @ rows.T, labels), 4) for name, rows in vectors.items()}
    return found | {"random": round(random_precision(labels), 4)}


def precision(scores: Floats, labels: Labels, k: int = K) -> float:
    """Mean share of the k best others that have the query's label, out of what is possible where it has fewer others.

    scores: float32[n, n]; a query without another of its label is left out.
    """
    same = _same(labels)
    possible = np.minimum(same.sum(axis=1), k)
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(same, top, axis=1).sum(axis=1)
    some = possible > 0
    return float((hits[some] / possible[some]).mean()) if some.any() else 0.0


def random_precision(labels: Labels, k: int = K) -> float:
    """What `precision` gives on average when the others come in any order."""
    same = _same(labels).sum(axis=1)
    same = same[same > 0]
    shown = min(k, len(labels) - 1)
    return float((shown * same / (len(labels) - 1) / np.minimum(same, k)).mean()) if len(same) else 0.0


def ridge(inputs: Floats, targets: Floats) -> Floats:
    """float32[d, e]: least squares from inputs float32[n, d] to targets float32[n, e], shrunk by RIDGE."""
    gram = inputs.T.astype(np.float64) @ inputs
    gram[np.diag_indices_from(gram)] += RIDGE
    return np.linalg.solve(gram, inputs.T.astype(np.float64) @ targets).astype(np.float32)


def _same(labels: Labels) -> npt.NDArray[np.bool_]:
    number = np.unique(np.asarray(labels, object), return_inverse=True)[1].ravel()
    same = number[:, None] == number[None, :]
    np.fill_diagonal(same, False)
    return np.asarray(same, np.bool_)
