"""Reads a picture that anybody may have made: whole, upright, in RGB, or refused with the reason, in bounded memory.

What a file claims is checked before its pixels are unpacked: a few kilobytes can claim billions. A JPEG is unpacked at
the smallest eighth that is still large enough; the other formats cannot, so fewer pixels are allowed to them.
"""

from __future__ import annotations

import io
import re
from typing import Literal

from PIL import Image, UnidentifiedImageError

from infra.errors import InvalidMessage

MAX_BYTES = 32 * 2**20
FORMATS = ("JPEG", "PNG", "WEBP")
# A photo from a phone has 12 to 50 million pixels, a drawing or a cut-out fewer.
MAX_JPEG_PIXELS = 50_000_000
MAX_PIXELS = 25_000_000
# Numbers a pixel of a JPEG up to which the larger limit holds: a phone's have 1.5 or 2, those whose colours are as fine
# as their light 3, CMYK 4. Where a file has several scans all of them are held, in two bytes each: 200 MB.
MAX_SAMPLES = 2
# Each scan is a walk over the whole picture, however few bytes it has; a progressive photo has about ten.
MAX_SCANS = 64
MAX_ASPECT = 20  # a longer strip is no photo, and would be scaled to a giant by its shorter side

JPEGS = ("JPEG", "MPO")
# The markers of a JPEG that begin a segment with a length, and the one that ends the picture: all but a fill byte, an
# escaped 255 among the pixels, and those that stand alone.
_SEGMENT = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_SCAN, _END = b"\xda", b"\xd9"

WHITE = (255, 255, 255)
_ORIENTATION = 0x0112  # tag of EXIF
# How to turn a picture that was taken with the camera held otherwise.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Why = Literal["type", "size", "broken"]


class ImageRefused(InvalidMessage):
    """No picture can be made of a file. why: it is of another `type`, its `size` is over a limit, or it is `broken`."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why


def decode_picture(content: bytes, at_least: int | None = None) -> Image.Image:
    """The first picture of a JPEG, PNG or WebP in RGB: turned as its EXIF says, what is transparent on white.

    Args:
        at_least: the shorter side that is needed; a picture of twice that or more is shrunk while it is unpacked.

    Raises:
        ImageRefused: of another type, too large, or broken; says what is allowed.
    """
    if not content:
        raise ImageRefused("broken", "the file is empty")
    if len(content) > MAX_BYTES:
        raise ImageRefused("size", f"a file of {len(content)} bytes; at most {MAX_BYTES} are allowed")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        if content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or content[8:12] == b"WEBP":
            raise ImageRefused("broken", "the file begins as a picture and is none") from error
        begins = content[:8].hex(" ")
        raise ImageRefused("type", f"no JPEG, PNG or WebP; the file begins {begins}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefused("size", f"more pixels than the {MAX_JPEG_PIXELS} that are allowed") from error
    except Exception as error:
        raise _broken(error) from error
    with image:
        _check_size(image)
        if image.format in JPEGS and _scans(content) > MAX_SCANS:
            raise ImageRefused(
                "size", f"a {image.format} of more than {MAX_SCANS} scans, which are all that are allowed"
            )
        try:
            return _unpacked(image, at_least)
        except Exception as error:
            # Pillow's decoders raise nearly anything on bytes made to break them: OSError, SyntaxError, struct.error,
            # ValueError, MemoryError. Whatever it is, there is no picture here.
            raise _broken(error) from error


def _check_size(image: Image.Image) -> None:
    allowed = MAX_JPEG_PIXELS if image.format in JPEGS and _samples(image) <= MAX_SAMPLES else MAX_PIXELS
    given = f"a {image.format} of {image.width} x {image.height} pixels"
    if image.width * image.height > allowed:
        raise ImageRefused("size", f"{given}; at most {allowed} are allowed")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise ImageRefused("size", f"{given}; the longer side is at most {MAX_ASPECT} times the shorter")


def _samples(image: Image.Image) -> float:
    """Numbers a pixel of a JPEG: of each component as many as its sampling factors say."""
    factors: list[tuple[int, int]] = [(across, down) for _, across, down, _ in getattr(image, "layer", [])]
    most = max((across for across, _ in factors), default=1) * max((down for _, down in factors), default=1)
    return sum(across * down for across, down in factors) / max(1, most)


def _scans(content: bytes) -> int:
    """Scans of the first picture of a JPEG, counted to one more than MAX_SCANS."""
    at, scans = 2, 0
    while scans <= MAX_SCANS and (found := _SEGMENT.search(content, at)) and found[1] != _END:
        scans += found[1] == _SCAN
        at = found.end() + max(2, int.from_bytes(content[found.end() : found.end() + 2]))
    return scans


def _unpacked(image: Image.Image, at_least: int | None) -> Image.Image:
    if at_least is not None:
        image.draft("RGB", (at_least, at_least))
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    transparent = image.has_transparency_data
    flat = _eight_bits(image).convert("RGBA" if transparent else "RGB")
    factor = 1 if at_least is None else min(flat.size) // at_least
    if factor >= 2:
        flat = flat.reduce(factor)
    if transparent:
        ground = Image.new("RGB", flat.size, WHITE)
        ground.paste(flat, mask=flat.getchannel("A"))
        flat = ground
    return flat if turn is None else flat.transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits a pixel as 8: Pillow itself would cut off all above 255."""
    return image.point(lambda value: value / 256).convert("L") if image.mode.startswith("I") else image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about the picture
        return 1


def _broken(error: Exception) -> ImageRefused:
    return ImageRefused("broken", f"the picture is damaged or cut short: {error or type(error).__name__}")
