"""Draws the garments of the synthetic world: simple shapes on a studio background, in the article's colour.

Coordinates of the shapes are in a frame 100 wide and 150 high; pictures are drawn at twice their size and
scaled down, which smooths the edges. The same article always gives the same bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from infra.errors import ConfigurationError
from offline.world.shapes import Points, Shape, garment_shape
from offline.world.vocabulary import COLOURS, GARMENTS, PATTERNS

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

WIDTH, HEIGHT = 144, 216
BACKGROUND = (243, 242, 239)
_QUALITY = 88
_OVER = 2
_UNIT = WIDTH * _OVER / 100
_RGB = tuple[int, int, int]


def draw_garment(garment: int, colour: int, pattern: int, product: int) -> bytes:
    """A JPEG of 144x216 pixels; `product` varies the cut and the pattern a little.

    Raises:
        ConfigurationError: Pillow is not installed.
    """
    Image, ImageChops, ImageDraw, ImageFilter = _pillow()
    rng = np.random.default_rng([product, garment])
    shape = garment_shape(GARMENTS[garment].name, rng)
    paint = COLOURS[colour].rgb
    size = (WIDTH * _OVER, HEIGHT * _OVER)

    mask = Image.new("L", size, 0)
    pen = ImageDraw.Draw(mask)
    for outline in shape.parts:
        pen.polygon(_scaled(outline), fill=255)
    for outline in shape.holes:
        pen.polygon(_scaled(outline), fill=0)

    cloth = Image.new("RGB", size, paint)
    _paint_pattern(ImageDraw.Draw(cloth), PATTERNS[pattern][0], paint, shape, rng)
    # Folds of light across the cloth; their mean leaves the colour as it is.
    across = np.linspace(0, 2 * np.pi * 1.5, size[0]) + rng.uniform(0, 6.28)
    light = (128 + 9 * np.sin(across)).astype(np.uint8)
    folds = Image.fromarray(np.broadcast_to(light, (size[1], size[0])).copy())
    cloth = ImageChops.overlay(cloth, Image.merge("RGB", (folds,) * 3))

    page = Image.new("RGB", size, BACKGROUND)
    shadow = mask.filter(ImageFilter.GaussianBlur(5 * _OVER))
    shadow = ImageChops.offset(shadow, _OVER, 3 * _OVER).point(lambda value: value * 2 // 5)
    page.paste(_mix(BACKGROUND, (0, 0, 0), 0.45), (0, 0), shadow)
    page.paste(cloth, (0, 0), mask)
    ink = ImageDraw.Draw(page)
    dark, bright = _mix(paint, (0, 0, 0), 0.38), _mix(paint, (255, 255, 255), 0.3)
    # What is darkest is drawn in a lighter line, or seams would not show on black.
    line = bright if sum(paint) < 180 else dark
    for outline in shape.parts:
        ink.line([*_scaled(outline), _scaled(outline)[0]], fill=line, width=_OVER + 1, joint="curve")
    for outline in shape.accents:
        ink.polygon(_scaled(outline), fill=_mix(paint, line, 0.55))
    for seam in shape.seams:
        ink.line(_scaled(seam), fill=line, width=_OVER, joint="curve")
    for x, y, radius in shape.dots:
        ink.ellipse(_box(x, y, radius), fill=line)
    page = page.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    page.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def _paint_pattern(pen: ImageDraw, pattern: str, paint: _RGB, shape: Shape, rng: np.random.Generator) -> None:
    accent = _mix(paint, (255, 255, 255) if sum(paint) < 420 else (60, 50, 60), 0.42)
    step = float(rng.uniform(7, 12))
    if pattern == "Stripe":
        for y in np.arange(0, 150, step):
            _bar(pen, 0, y, 100, step * 0.3, accent)
    elif pattern == "Check":
        _checks(pen, step, accent, _mix(paint, accent, 0.55))
    elif pattern == "Dot":
        for x, y in _shifted_rows(step, step * 0.7):
            pen.ellipse(_box(x, y, step * 0.17), fill=accent)
    elif pattern == "All over pattern":
        for x, y in _shifted_rows(step * 1.2, step):
            _flower(pen, x, y, step * 0.17, accent, _mix(accent, paint, 0.6))
    elif pattern == "Front print":
        _star(pen, shape.middle, 5 + int(rng.integers(0, 4)), accent, paint)


def _shifted_rows(across: float, down: float) -> list[tuple[float, float]]:
    """Points of a grid over the frame, every second row shifted by half a step."""
    rows = enumerate(np.arange(0, 150, down).tolist())
    return [(x + across / 2 * (row % 2), y) for row, y in rows for x in np.arange(0, 100, across).tolist()]


def _bar(pen: ImageDraw, x: float, y: float, width: float, height: float, fill: _RGB) -> None:
    pen.rectangle((x * _UNIT, y * _UNIT, (x + width) * _UNIT, (y + height) * _UNIT), fill=fill)


def _checks(pen: ImageDraw, step: float, accent: _RGB, faint: _RGB) -> None:
    thin = step * 0.2
    for at in np.arange(0, 150, step).tolist():
        _bar(pen, 0, at, 100, thin, faint)
        _bar(pen, at, 0, thin, 150, faint)
    for y in np.arange(0, 150, step).tolist():
        for x in np.arange(0, 100, step).tolist():
            _bar(pen, x, y, thin, thin, accent)


def _star(pen: ImageDraw, middle: tuple[float, float], points: int, fill: _RGB, heart: _RGB) -> None:
    x, y = middle
    turns = np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2, 5.0, 11.0)
    pen.polygon(_scaled(list(zip(x + radius * np.sin(turns), y - radius * np.cos(turns), strict=True))), fill=fill)
    pen.ellipse(_box(x, y, 3), fill=heart)


def _flower(pen: ImageDraw, x: float, y: float, radius: float, petals: _RGB, heart: _RGB) -> None:
    for angle in np.arange(5) * 2 * np.pi / 5:
        pen.ellipse(_box(x + 1.3 * radius * np.sin(angle), y - 1.3 * radius * np.cos(angle), radius), fill=petals)
    pen.ellipse(_box(x, y, radius * 0.7), fill=heart)


def _scaled(outline: Points) -> list[tuple[float, float]]:
    return [(x * _UNIT, y * _UNIT) for x, y in outline]


def _box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return (x - radius) * _UNIT, (y - radius) * _UNIT, (x + radius) * _UNIT, (y + radius) * _UNIT


def _mix(one: _RGB, other: _RGB, part: float) -> _RGB:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _pillow() -> tuple[Any, Any, Any, Any]:
    try:
        from PIL import Image, ImageChops, ImageDraw, ImageFilter
    except ImportError as error:
        raise ConfigurationError(
            "drawing pictures needs Pillow; install modiste[pictures], or leave the pictures out"
        ) from error
    return Image, ImageChops, ImageDraw, ImageFilter
