"""Photos come from anybody: what cannot be read is no picture, and never an error or a full memory."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import DataError
from offline.content.images import DirectoryImages, ParquetImages, decode_image, open_images
from tests.offline.content_toys import picture

PHOTOS = Path(os.environ.get("HM_IMAGES_DIR", Path(__file__).parents[3] / "shared" / "data" / "hm-images"))
RED = picture((200, 10, 10))


def test_a_parquet_store_gives_the_bytes_by_article(tmp_path: Path) -> None:
    path = tmp_path / "photos.parquet"
    pq.write_table(pa.table({"article_id": ["1", "2", "3"], "jpeg": [RED, b"", None], "w": [24, 1, 1]}), path)
    for store in (ParquetImages(path), open_images(tmp_path)):
        assert store.get("1") == RED
        assert [store.get(article) for article in ("2", "3", "4")] == [None, None, None]


def test_a_directory_store_reads_the_layout_of_kaggle(tmp_path: Path) -> None:
    (tmp_path / "010").mkdir()
    (tmp_path / "010" / "0108775015.jpg").write_bytes(RED)
    store = open_images(tmp_path)
    assert isinstance(store, DirectoryImages)
    assert store.get("0108775015") == RED
    assert store.get("0108775016") is None


def test_an_article_id_cannot_lead_out_of_the_directory(tmp_path: Path) -> None:
    inside = tmp_path / "images" / "..x"
    inside.mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(RED)
    store = DirectoryImages(tmp_path / "images")
    assert store.get("../../secret") is None
    assert store.get("") is None


def test_a_file_that_is_no_store_of_photos_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photos.parquet"
    pq.write_table(pa.table({"article_id": ["1"]}), path)
    with pytest.raises(DataError, match=r"photos\.parquet, column jpeg: photos need"):
        ParquetImages(path)
    with pytest.raises(DataError, match="no whole Parquet file"):
        ParquetImages(tmp_path / "nothing.parquet")
    with pytest.raises(DataError, match="no such directory"):
        DirectoryImages(tmp_path / "nothing")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_photos_are_read_in_rgb(kind: str) -> None:
    image = decode_image(picture((200, 10, 10), kind))
    assert image is not None
    assert (image.mode, image.size) == ("RGB", (24, 36))
    pixel = image.getpixel((3, 3))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 150 and pixel[1] < 60


def test_a_large_photo_is_unpacked_no_larger_than_needed() -> None:
    image = decode_image(picture((1, 2, 3), size=(800, 1200)), at_least=100)
    assert image is not None
    assert image.size == (100, 150)


def claiming(width: int, height: int) -> bytes:
    """A PNG of 70 bytes that says it has width x height pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")


@pytest.mark.skipif(
    not PHOTOS.is_dir(), reason=f"no H&M photos at {PHOTOS}; set HM_IMAGES_DIR to a directory with them"
)
def test_real_photos_are_read() -> None:
    store = open_images(PHOTOS)
    content = store.get("0111565001")
    assert content is not None
    image = decode_image(content)
    assert image is not None
    assert image.size == (144, 216)


@pytest.mark.parametrize("size", [(8_000, 8_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_a_file_that_claims_too_many_pixels_is_no_picture(size: tuple[int, int]) -> None:
    assert decode_image(claiming(*size)) is None


@pytest.mark.parametrize("kind", ["GIF", "BMP"])
def test_other_formats_are_no_pictures(kind: str) -> None:
    assert decode_image(picture((1, 2, 3), kind)) is None


@given(st.one_of(st.binary(max_size=200), st.integers(0, len(RED)).map(lambda end: RED[:end][: len(RED) - 1])))
def test_broken_bytes_are_no_picture_and_no_error(content: bytes) -> None:
    assert decode_image(content) is None


@given(st.integers(0, len(RED) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_raises(place: int, flip: int) -> None:
    damaged = bytearray(RED)
    damaged[place] ^= flip
    image = decode_image(bytes(damaged))
    assert image is None or image.mode == "RGB"
