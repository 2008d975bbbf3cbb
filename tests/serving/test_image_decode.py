"""What anybody may upload: read as a person would see it, or refused with the reason, in bounded memory."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import serving
from serving.image_decode import MAX_BYTES, ImageRefused, decode_picture

RED, BLUE = (220, 20, 20), (20, 20, 220)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def halves(mode: str = "RGB") -> Image.Image:
    """40 x 20, red on the left and blue on the right."""
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (20, 0, 40, 20))
    return image.convert(mode)


def near(given: Any, expected: tuple[int, int, int], by: int = 40) -> bool:
    return all(abs(a - b) <= by for a, b in zip(given, expected, strict=True))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, rows: int) -> bytes:
    """A PNG that claims a size and holds so many black rows of it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pack = zlib.compressobj(9)
    body = b"".join(pack.compress(b"\0" * (1 + 3 * width)) for _ in range(rows)) + pack.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


HELD = {"JPEG": ("RGB", "L", "CMYK", "1"), "PNG": ("RGB", "L", "P", "RGBA", "1", "LA"), "WEBP": ("RGB", "RGBA", "P")}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in HELD.items() for mode in modes])
def test_every_mode_becomes_rgb_of_the_same_size(kind: str, mode: str) -> None:
    found = decode_picture(saved(halves(mode), kind))
    assert (found.mode, found.size) == ("RGB", (40, 20))
    if mode in ("RGB", "RGBA", "P", "CMYK"):
        assert near(found.getpixel((5, 10)), RED)
        assert near(found.getpixel((35, 10)), BLUE)


@pytest.mark.parametrize(
    ("orientation", "left_top"), [(1, RED), (2, BLUE), (3, BLUE), (4, RED), (5, RED), (6, RED), (7, BLUE), (8, BLUE)]
)
def test_a_photo_is_turned_as_its_exif_says(orientation: int, left_top: tuple[int, int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode_picture(saved(halves(), "JPEG", exif=exif, quality=95))
    assert found.size == ((20, 40) if orientation >= 5 else (40, 20))
    assert near(found.getpixel((2, 2)), left_top)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_says_nothing_about_the_picture() -> None:
    content = saved(halves(), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff" + b"\xff" * 40)
    assert decode_picture(content).size == (40, 20)


def test_what_is_transparent_lies_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert decode_picture(saved(clear)).getpixel((4, 4)) == (255, 255, 255)
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert near(decode_picture(saved(half)).getpixel((4, 4)), (127, 127, 127), by=1)


def test_grey_of_sixteen_bits_keeps_its_shades() -> None:
    deep = Image.new("I;16", (8, 8), 32_768)
    assert near(decode_picture(saved(deep)).getpixel((4, 4)), (128, 128, 128), by=1)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_of_moving_pictures_the_first_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, BLUE)]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(decode_picture(content).getpixel((8, 8)), RED)


def test_a_large_picture_is_shrunk_to_what_is_needed() -> None:
    large = Image.new("RGB", (1_600, 800), RED)
    for kind in ("JPEG", "PNG"):
        found = decode_picture(saved(large, kind), at_least=100)
        assert 100 <= min(found.size) < 200
        assert near(found.getpixel((50, 50)), RED)
    assert decode_picture(saved(halves()), at_least=100).size == (40, 20)


def test_each_refusal_says_why() -> None:
    gif, text = saved(halves(), "GIF"), b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    jpeg = saved(Image.effect_noise((400, 400), 80), "JPEG")
    cases = [
        (b"", "broken", "empty"),
        (gif, "type", "no JPEG, PNG or WebP; the file begins 47 49 46"),
        (text, "type", "no JPEG, PNG or WebP"),
        (b"%PDF-1.7 " * 100, "type", "no JPEG"),
        (jpeg[: len(jpeg) // 2], "broken", "cut short"),
        (saved(halves())[:60], "broken", "cut short"),
        (b"\xff\xd8\xff" + b"\0" * 100, "broken", "begins as a picture"),
        (b"\0" * (MAX_BYTES + 1), "size", "at most 33554432"),
        (png_of(60_000, 60_000, 1), "size", "more pixels than"),
        (png_of(6_000, 5_000, 1), "size", "6000 x 5000 pixels; at most 25000000"),
        (png_of(4_000, 10, 10), "size", "at most 20 times"),
    ]
    for content, why, said in cases:
        with pytest.raises(ImageRefused, match=said) as refused:
            decode_picture(content)
        assert refused.value.why == why


def progressive(scans: int) -> bytes:
    """A progressive JPEG whose last scan stands there again and again."""
    whole = saved(halves(), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * (scans - whole.count(b"\xff\xda")) + whole[-2:]


def test_scans_are_bounded_however_short_they_are() -> None:
    with pytest.raises(ImageRefused, match="more than 64 scans") as refused:
        decode_picture(progressive(65))
    assert refused.value.why == "size"
    assert decode_picture(progressive(64)).size == (40, 20)


def test_what_is_no_scan_of_the_picture_is_not_counted() -> None:
    """A thumbnail, a profile, a film behind the photo."""
    whole = saved(halves(), "JPEG", comment=b"\xff\xda" * 100)
    assert decode_picture(whole + b"\xff\xda" * 100).size == (40, 20)


def enlarged(content: bytes, width: int, height: int) -> bytes:
    """The same JPEG with another size in its header."""
    at = next(content.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in content)
    return content[: at + 5] + struct.pack(">HH", height, width) + content[at + 9 :]


@pytest.mark.parametrize("progressive", [False, True])
def test_colours_as_fine_as_light_count_double(progressive: bool) -> None:
    coarse = saved(halves(), "JPEG", subsampling=2, progressive=progressive)
    fine = saved(halves(), "JPEG", subsampling=0, progressive=progressive)
    print_colours = saved(halves("CMYK"), "JPEG", progressive=progressive)
    for content, allowed in ((coarse, 50_000_000), (fine, 25_000_000), (print_colours, 25_000_000)):
        with pytest.raises(ImageRefused, match=f"8000 x 8000 pixels; at most {allowed} are allowed"):
            decode_picture(enlarged(content, 8_000, 8_000))


@given(st.binary(max_size=200), st.sampled_from(["JPEG", "PNG", "WEBP"]), st.integers(0, 400))
def test_damage_anywhere_is_a_picture_or_a_refusal(damage: bytes, kind: str, at: int) -> None:
    whole = bytearray(saved(halves(), kind))
    whole[at : at + len(damage)] = damage
    try:
        assert decode_picture(bytes(whole)).mode == "RGB"
    except ImageRefused as refused:
        assert refused.why in ("type", "size", "broken")


CHILD = """
import json, resource, sys
from pathlib import Path
from serving.image_decode import ImageRefused, decode_picture
decode_picture(Path(sys.argv[1]).read_bytes(), 192)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = []
for name in sys.argv[2:]:
    try:
        told.append(list(decode_picture(Path(name).read_bytes(), 192).size))
    except ImageRefused as refused:
        told.append(refused.why)
print(json.dumps({"told": told, "grown_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}))
"""


def test_memory_is_bounded_whatever_a_file_claims(tmp_path: Path) -> None:
    bomb = png_of(5_000, 5_000, 5_000)  # 75 MB unpacked, as large as is allowed
    assert len(bomb) < 200_000
    noise = Image.effect_noise((1_000, 1_000), 60).resize((7_000, 7_000)).convert("RGB")
    fine = noise.resize((5_000, 5_000))
    files = {
        "small.png": saved(halves()),
        "bomb.png": bomb,
        "claims.png": png_of(60_000, 60_000, 1),
        "photo.jpg": saved(noise, "JPEG", quality=60),
        "progressive.jpg": saved(noise, "JPEG", quality=60, progressive=True),
        "fine.jpg": saved(fine, "JPEG", quality=60, subsampling=0, progressive=True),
        "print.jpg": saved(fine.convert("CMYK"), "JPEG", quality=60, progressive=True),
        "zeros.bin": b"\0" * 50_000_000,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *(str(tmp_path / name) for name in files)],
        cwd=Path(serving.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    *pictures, zeros = found["told"]
    assert (pictures.pop(1), zeros) == ("size", "size")
    assert all(192 <= side < 2 * 192 for picture in pictures for side in picture)
    assert found["grown_mb"] < 300
