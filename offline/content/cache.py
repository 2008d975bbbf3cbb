"""Vectors kept by the hash of what they were made from, so that nothing is encoded twice and a killed run goes on.

    DIR/<encoder name>-<encoder revision>/<hash of its keys>.npz      keys uint8[n, 32], vectors float16[n, dim]

A shard is written aside and renamed; one that is not whole counts as absent. Two processes may share a directory: the
same vectors have the same file name.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

# What a killed run loses at most: about ten seconds of MiniLM on one core.
SHARD = 2_048

Encode = Callable[[Sequence[bytes]], npt.NDArray[np.float32]]


class VectorCache:
    """The vectors of one encoder (its name and revision are the directory's name)."""

    def __init__(self, directory: Path, name: str, revision: str, dim: int) -> None:
        self.path = directory / re.sub(r"[^\w.-]+", "_", f"{name}-{revision}")
        self.dim = dim
        self._rows: dict[bytes, npt.NDArray[np.float16]] = {}
        for shard in sorted(self.path.glob("*.npz")):
            self._read(shard)

    def __len__(self) -> int:
        return len(self._rows)

    def vectors(
        self, contents: Sequence[bytes], encode: Encode, advance: Callable[[int], None]
    ) -> npt.NDArray[np.float32]:
        """Vectors of `contents` in their order, float32[n, dim]; only unknown ones are encoded, equal ones once.

        They are encoded in the order of their length, which keeps the texts of one batch alike (less padding). Both
        new and cached vectors are rounded to float16, so a second run gives the same bits. `advance` is told how many
        of `contents` are done.
        """
        keys = [hashlib.sha256(content).digest() for content in contents]
        unknown = {key: content for key, content in zip(keys, contents, strict=True) if key not in self._rows}
        todo = sorted(unknown.items(), key=lambda pair: (len(pair[1]), pair[1]))
        advance(len(contents) - len(todo))
        for start in range(0, len(todo), SHARD):
            part = todo[start : start + SHARD]
            found = encode([content for _, content in part]).astype(np.float16)
            self._write([key for key, _ in part], found)
            advance(len(part))
        if not keys:
            return np.empty((0, self.dim), np.float32)
        return np.stack([self._rows[key] for key in keys]).astype(np.float32)

    def _write(self, keys: list[bytes], vectors: npt.NDArray[np.float16]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(b"".join(keys)).hexdigest()[:32]
        aside = self.path / f"{name}.{os.getpid()}.part"
        with aside.open("wb") as file:
            np.savez(file, keys=np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32), vectors=vectors)
        aside.replace(self.path / f"{name}.npz")
        self._rows.update(zip(keys, vectors, strict=True))

    def _read(self, shard: Path) -> None:
        try:
            with shard.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                keys, vectors = stored["keys"], stored["vectors"]
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
            return  # cut short: what it held is encoded again
        if vectors.shape == (len(keys), self.dim) and keys.shape[1:] == (32,) and np.isfinite(vectors).all():
            self._rows.update(zip((key.tobytes() for key in keys), vectors, strict=True))
