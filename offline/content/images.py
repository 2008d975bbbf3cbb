"""Photos of articles: where they lie, and how a file that anybody may have made is read."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import DataError
from offline.content.encoders import missing_package

if TYPE_CHECKING:
    from PIL.Image import Image

# A photo from a phone has 12 to 50 million pixels. A file of a few kilobytes can claim billions and fill the memory.
MAX_PIXELS = 50_000_000
MAX_BYTES = 32 * 2**20
FORMATS = ("JPEG", "PNG", "WEBP")


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
    """The picture in RGB; None where the bytes are no whole JPEG, PNG or WebP, or a picture too large to be honest.

    `at_least`: shorter side that is needed; a JPEG is then unpacked at the smallest eighth that still has it.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise missing_package("pillow") from error
    if len(content) > MAX_BYTES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None
                if at_least is not None:
                    image.draft("RGB", (at_least, at_least))
                return image.convert("RGB")
    except Exception:
        # Pillow's decoders raise nearly anything on bytes made to break them: OSError, SyntaxError, struct.error,
        # DecompressionBombError, MemoryError. Whatever it is, there is no picture here.
        return None
