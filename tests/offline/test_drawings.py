"""Every garment in every colour and pattern is a drawing: well-formed, harmless, the same each time."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from offline.world.catalogue import make_catalogue
from offline.world.drawings import draw, write_drawings
from offline.world.settings import WorldSize
from offline.world.vocabulary import COLOURS, GARMENTS, PATTERNS
from serving.pictures import PictureDirectory

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("garment", range(len(GARMENTS)), ids=[garment.name for garment in GARMENTS])
def test_a_garment_is_drawn_in_every_pattern(garment: int) -> None:
    for pattern in range(len(PATTERNS)):
        tree = ElementTree.fromstring(draw(garment, pattern % len(COLOURS), pattern, 100_007))
        assert tree.tag == f"{SVG}svg" and tree.get("viewBox") == "0 0 100 150"
        assert {part.tag.removeprefix(SVG) for part in tree.iter()}.isdisjoint({"script", "image", "foreignObject"})
        fills = {part.get("fill") for part in tree.iter()}
        assert "url(#p)" in fills if PATTERNS[pattern][0] in ("Stripe", "Check", "Dot", "All over pattern") else True


def test_the_colour_is_the_articles_own() -> None:
    red, blue = (next(n for n, c in enumerate(COLOURS) if c.name == name) for name in ("Red", "Dark Blue"))
    assert "#be242c" in draw(0, red, 0, 100_000)
    assert "#be242c" not in draw(0, blue, 0, 100_000)


def test_variants_hang_before_one_wall_and_have_one_cut() -> None:
    one, other = draw(9, 0, 0, 100_003), draw(9, 7, 0, 100_003)
    assert one == draw(9, 0, 0, 100_003) != other
    assert one.split("<path", 2)[1] == other.split("<path", 2)[1]
    assert draw(9, 0, 0, 100_004) != one


def test_the_page_finds_what_was_drawn(tmp_path: Path) -> None:
    catalogue = make_catalogue(WorldSize(customers=5, articles=40, days=30))
    assert write_drawings(catalogue, tmp_path) == 40
    picture = PictureDirectory(tmp_path).get(catalogue.ids[0].as_py(), 320)
    assert picture is not None and picture.media_type == "image/svg+xml"
