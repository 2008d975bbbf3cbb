"""From what an encoder says of an article to the content vector of a bundle: one map, fitted offline and carried along.

The vectors of an encoder depend on the text alone, so they outlive bundles; the map belongs to one bundle. An article
that came after the bundle was built goes the same way as those that it was built from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.errors import BundleError

Floats = npt.NDArray[np.float32]
_CHUNK = 8_192


@dataclass(frozen=True, eq=False)
class Projection:
    """mean float32[d] · axes float32[d, k], orthonormal columns, the one with the largest variance first."""

    mean: Floats
    axes: Floats

    def __call__(self, vectors: Floats) -> Floats:
        """Unit rows float32[n, k] of vectors float32[n, d]; zero rows, which say nothing, stay zero."""
        out = np.zeros((len(vectors), self.axes.shape[1]), np.float32)
        some = np.flatnonzero(vectors.any(axis=1))
        for start in range(0, len(some), _CHUNK):
            rows = some[start : start + _CHUNK]
            out[rows] = unit_rows((vectors[rows] - self.mean) @ self.axes)
        return out


@dataclass(frozen=True, eq=False)
class ContentSpace:
    """encoder: name and revision of what encodes texts; vectors of another never meet this map · scale: of the text's
    part · rest: float32[m] what stands beside it in an article without a photo; empty where texts are all there is.
    """

    encoder: str
    scale: float
    rest: Floats
    projection: Projection

    def __call__(self, texts: Floats) -> Floats:
        """Content vectors float32[n, k] of articles without a photo, from unit rows float32[n, d] of the encoder; zero
        rows stay zero. To half precision, in which bundles keep them."""
        rest = np.repeat(self.rest[None], len(texts), axis=0)
        known = texts.any(axis=1, keepdims=True)
        fused = np.where(known, np.concatenate([texts * np.float32(self.scale), rest], axis=1), np.float32(0))
        return self.projection(fused).astype(np.float16).astype(np.float32)

    @property
    def text_dim(self) -> int:
        """d: what the encoder's vectors measure."""
        return len(self.projection.mean) - len(self.rest)

    def save(self, path: Path) -> None:
        np.savez(
            path,
            encoder=np.array(self.encoder, np.str_),
            scale=np.array(self.scale),
            rest=self.rest,
            mean=self.projection.mean,
            axes=self.projection.axes,
        )

    @classmethod
    def load(cls, path: Path, dim: int) -> ContentSpace:
        """Read with pickle off. `dim`: of the bundle's content vectors.

        Raises:
            BundleError: an array is missing, or the map does not lead to vectors of `dim` dimensions.
        """
        with np.load(path, allow_pickle=False) as stored:
            missing = {"encoder", "scale", "rest", "mean", "axes"} - set(stored.files)
            if missing:
                raise BundleError(f"{path.name} lacks {', '.join(sorted(missing))}")
            encoder, scale = str(stored["encoder"]), float(stored["scale"])
            rest, mean, axes = (np.asarray(stored[name], np.float32) for name in ("rest", "mean", "axes"))
        if axes.shape != (len(mean), dim) or len(rest) >= len(mean):
            raise BundleError(
                f"{path.name} maps {len(mean)} dimensions, {len(rest)} of them beside the text, by axes of shape "
                f"{axes.shape}; content_vectors.npy has {dim} dimensions"
            )
        return cls(encoder, scale, rest, Projection(mean, axes))


def space_name(name: str, revision: str) -> str:
    """What vectors of an encoder are known by: equal names, equal vectors for equal texts."""
    return f"{name}-{revision}"


def unit_rows(vectors: npt.NDArray[np.floating]) -> Floats:
    """Rows of length 1; zero rows stay zero. float32 of the same shape."""
    length = np.linalg.norm(vectors.astype(np.float32), axis=-1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32)
