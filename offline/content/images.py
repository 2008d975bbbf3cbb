"""Photos of articles: where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from PIL.Image import Image

from infra.errors import DataError
from serving.image_decode import MAX_BYTES, ImageRefused, decode_picture


class ImageStore(Protocol):
    """Photos by article."""

    def get(self, article_id: str) -> bytes | None:
        """The bytes of the article's image file, None where there is none."""


class ParquetImages:
    """A Parquet file with the columns article_id (string) and jpeg (binary), held in memory.

    Raises:
        DataError: no such file, not Parquet, or a column is missing.
    """

    def __init__(self, path: Path) -> None:
        try:
            file = pq.ParquetFile(path)
            missing = {"article_id", "jpeg"} - set(file.schema_arrow.names)
            if missing:
                raise DataError("photos need the columns article_id and jpeg", file=str(path), column=min(missing))
            table = file.read(["article_id", "jpeg"], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"no whole Parquet file: {error}", file=str(path)) from error
        self._bytes = table["jpeg"]
        self._row = {article: row for row, article in enumerate(table["article_id"].cast(pa.string()).to_pylist())}

    def get(self, article_id: str) -> bytes | None:
        row = self._row.get(article_id)
        value: bytes | None = None if row is None else self._bytes[row].as_py()
        return value or None


class DirectoryImages:
    """H&M's layout on Kaggle: DIR/010/0108775015.jpg, the folder named by the first three digits."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise DataError("no such directory", file=str(directory))
        self._directory = directory

    def get(self, article_id: str) -> bytes | None:
        # An id is data: it must not lead out of the directory.
        if not article_id.isalnum():
            return None
        try:
            path = self._directory / article_id[:3] / f"{article_id}.jpg"
            return path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
        except OSError:
            return None


def open_images(path: Path) -> ImageStore:
    """A directory with one Parquet file of photos, such a file itself, or H&M's directory of folders."""
    if path.is_dir():
        tables = sorted(path.glob("*.parquet"))
        return ParquetImages(tables[0]) if tables else DirectoryImages(path)
    return ParquetImages(path)


def decode_image(content: bytes, at_least: int | None = None) -> Image | None:
    """The picture in RGB as serving would read it (serving/image_decode.py); None where it would refuse it."""
    try:
        return decode_picture(content, at_least)
    except ImageRefused:
        return None
