"""Pictures come from one directory, whatever an id says, and no wider than the page shows them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from infra.errors import ConfigurationError
from serving.pictures import PictureDirectory


def jpeg(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (190, 36, 44)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    shelf = tmp_path / "shelf"
    (shelf / "010").mkdir(parents=True)
    (shelf / "010" / "0108775015.jpg").write_bytes(jpeg(144, 216))
    (shelf / "coat.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (tmp_path / "secret.jpg").write_bytes(jpeg(10, 10))
    return shelf


def test_both_layouts_are_read(shelf: Path) -> None:
    pictures = PictureDirectory(shelf)
    photo, drawing = pictures.get("0108775015", 320), pictures.get("coat", 320)
    assert photo is not None and (photo.media_type, photo.content[:2]) == ("image/jpeg", b"\xff\xd8")
    assert drawing is not None and drawing.media_type == "image/svg+xml"
    assert pictures.get("0108775016", 320) is None


@pytest.mark.parametrize(
    "article_id", ["../secret", "..", "", ".", "/etc/passwd", "010/0108775015", "0108775015.jpg", "a\0b", "coat\n", "é"]
)
def test_an_id_never_leads_out_of_the_directory(shelf: Path, article_id: str) -> None:
    assert PictureDirectory(shelf).find(article_id) is None


def test_a_link_that_leads_elsewhere_is_not_followed(shelf: Path, tmp_path: Path) -> None:
    (shelf / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    assert PictureDirectory(shelf).find("link") is None


def test_what_is_no_picture_is_not_shown_as_one(shelf: Path) -> None:
    (shelf / "page.jpg").write_text("<script>alert(1)</script>")
    assert PictureDirectory(shelf).get("page", 320) is None


def test_a_wide_photo_is_made_narrow_and_keeps_its_shape(shelf: Path) -> None:
    (shelf / "wide.jpg").write_bytes(jpeg(1166, 1750))
    picture = PictureDirectory(shelf).get("wide", 320)
    assert picture is not None
    assert Image.open(io.BytesIO(picture.content)).size == (320, 480)


def test_a_broken_photo_is_handed_out_as_it_is(shelf: Path) -> None:
    (shelf / "half.jpg").write_bytes(jpeg(1166, 1750)[:2_000])
    picture = PictureDirectory(shelf).get("half", 320)
    assert picture is not None and len(picture.content) == 2_000


def test_the_cache_holds_what_it_has_room_for(shelf: Path) -> None:
    content = (shelf / "010" / "0108775015.jpg").read_bytes()
    for name in ("one", "two", "three"):
        (shelf / f"{name}.jpg").write_bytes(content)
    pictures = PictureDirectory(shelf, cache_bytes=2 * len(content))
    for name in ("one", "two", "one", "three"):
        assert pictures.get(name, 320) is not None
    for name in ("one", "two", "three"):
        (shelf / f"{name}.jpg").write_bytes(jpeg(20, 30))
    # `two` was looked at longest ago, so it made room and is read again.
    sizes = {name: len(found.content) for name in ("one", "three", "two") if (found := pictures.get(name, 320))}
    assert (sizes["one"], sizes["three"]) == (len(content), len(content))
    assert sizes["two"] == len(jpeg(20, 30))


def test_a_directory_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"page\.pictures names .*gone, which is no directory"):
        PictureDirectory(tmp_path / "gone")
