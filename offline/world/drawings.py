"""Garments of the synthetic world as drawings (SVG): the cut, colour and pattern of `pictures`, sharp at every size.

What learns and searches looks at the pictures; what people look at on the shop page are these, a few kilobytes each.
Coordinates are those of `shapes`: a frame 100 wide and 150 high.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offline.progress import step
from offline.world.catalogue import Catalogue
from offline.world.shapes import Points, Shape, garment_shape
from offline.world.vocabulary import COLOURS, GARMENTS, PATTERNS

_RGB = tuple[int, int, int]
# Walls of a studio; which one is the product's own, so that its variants hang before the same.
WALLS = ("#f1efea", "#eceae3", "#ebeeee", "#f2ece8", "#e9ece6", "#efebf0")
WHITE, NIGHT = (255, 255, 255), (20, 16, 24)


def draw(garment: int, colour: int, pattern: int, product: int) -> str:
    """The SVG of an article; `product` varies the cut and the pattern a little, as in `pictures.draw_garment`."""
    rng = np.random.default_rng([product, garment])
    shape = garment_shape(GARMENTS[garment].name, rng)
    paint = COLOURS[colour].rgb
    # On black, seams are drawn lighter, or they would not show; on white, darker.
    line = _mix(paint, WHITE, 0.34) if sum(paint) < 180 else _mix(paint, NIGHT, 0.36)
    cloth = "".join(f'<path d="{_closed(part)}"/>' for part in shape.parts)
    defs, fill, print_ = _pattern(PATTERNS[pattern][0], paint, shape, rng)
    holes = "".join(f'<path d="{_closed(hole)}"/>' for hole in shape.holes)
    wall = WALLS[product % len(WALLS)]
    accents = "".join(f'<path d="{_closed(outline)}"/>' for outline in shape.accents)
    seams = "".join(f'<path d="{_open(seam)}"/>' for seam in shape.seams)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>' for x, y, radius in shape.dots)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 150">'
        f'<defs><clipPath id="c">{cloth}</clipPath>{defs}'
        '<linearGradient id="f" x2="1">'
        + "".join(f'<stop offset="{at}" stop-color="{sign}" stop-opacity="{much}"/>' for at, sign, much in _FOLDS)
        + '</linearGradient><radialGradient id="w" cy=".38"><stop stop-color="#fff" stop-opacity=".75"/>'
        '<stop offset="1" stop-color="#fff" stop-opacity="0"/></radialGradient>'
        '<filter id="s" x="-.3" y="-.3" width="1.6" height="1.6"><feGaussianBlur stdDeviation="3.2"/></filter></defs>'
        f'<path fill="{wall}" d="M0 0h100v150H0z"/><path fill="url(#w)" d="M0 0h100v150H0z"/>'
        f'<g fill="#2a2218" fill-opacity=".26" filter="url(#s)" transform="translate(1.2 4)">{cloth}</g>'
        f'<g fill="{fill}" stroke="{_hex(line)}" stroke-width=".7" stroke-linejoin="round">{cloth}</g>'
        f'<g clip-path="url(#c)">{print_}<path fill="url(#f)" d="M0 0h100v150H0z"/></g>'
        f'<g fill="{wall}">{holes}</g>'
        f'<g fill="{_hex(_mix(paint, line, 0.55))}" stroke="{_hex(line)}" stroke-width=".5">{accents}</g>'
        f'<g fill="none" stroke="{_hex(line)}" stroke-width=".6" stroke-linecap="round">{seams}</g>'
        f'<g fill="{_hex(line)}">{dots}</g></svg>'
    )


# Light across the cloth: (place, colour, how much of it).
_FOLDS = (
    ("0", "#000", ".16"),
    (".28", "#fff", ".14"),
    (".46", "#000", ".05"),
    (".62", "#fff", ".1"),
    ("1", "#000", ".18"),
)


def write_drawings(catalogue: Catalogue, directory: Path) -> int:
    """DIR/010/0100000001.svg for every article; returns how many. Those that are there already are drawn again."""
    columns = (catalogue.garment, catalogue.colour, catalogue.pattern, catalogue.product)
    with step("drawings", len(catalogue)) as progress:
        for name, *row in zip(catalogue.ids.to_pylist(), *(c.tolist() for c in columns), strict=True):
            path = directory / name[:3] / f"{name}.svg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(draw(*row))
            progress.advance()
    return len(catalogue)


def _pattern(name: str, paint: _RGB, shape: Shape, rng: np.random.Generator) -> tuple[str, str, str]:
    """Definitions, what the cloth is filled with, and what is printed on it."""
    accent = _mix(paint, WHITE if sum(paint) < 420 else (60, 50, 60), 0.42)
    step_ = float(rng.uniform(7, 12))
    ground, ink, faint = _hex(paint), _hex(accent), _hex(_mix(paint, accent, 0.55))
    if name == "Stripe":
        bar = f'<path fill="{ink}" d="M0 0h100v{step_ * 0.3:.2f}H0z"/>'
        return _tiled(100, step_, ground, bar), "url(#p)", ""
    if name == "Check":
        thin = step_ * 0.2
        bars = f'<path fill="{faint}" d="M0 0h{step_:.2f}v{thin:.2f}H0zM0 0h{thin:.2f}v{step_:.2f}H0z"/>'
        cross = f'<path fill="{ink}" d="M0 0h{thin:.2f}v{thin:.2f}H0z"/>'
        return _tiled(step_, step_, ground, bars + cross), "url(#p)", ""
    if name == "Dot":
        across, down = step_, step_ * 0.7
        dots = "".join(
            f'<circle fill="{ink}" cx="{x:.2f}" cy="{y:.2f}" r="{step_ * 0.17:.2f}"/>'
            for x, y in _quincunx(across, down)
        )
        return _tiled(across, 2 * down, ground, dots), "url(#p)", ""
    if name == "All over pattern":
        across, down = step_ * 1.2, step_
        heart = _hex(_mix(accent, paint, 0.6))
        flowers = "".join(_flower(x, y, step_ * 0.17, ink, heart) for x, y in _quincunx(across, down))
        return _tiled(across, 2 * down, ground, flowers), "url(#p)", ""
    if name == "Front print":
        return "", ground, _star(shape.middle, 5 + int(rng.integers(0, 4)), ink, ground)
    return "", ground, ""


def _tiled(width: float, height: float, ground: str, inner: str) -> str:
    return (
        f'<pattern id="p" width="{width:.2f}" height="{height:.2f}" patternUnits="userSpaceOnUse">'
        f'<path fill="{ground}" d="M0 0h{width:.2f}v{height:.2f}H0z"/>{inner}</pattern>'
    )


def _quincunx(across: float, down: float) -> list[tuple[float, float]]:
    """The places of two rows, the second shifted by half a step, inside one tile."""
    return [(across * 0.25, down * 0.5), (across * 0.75, down * 1.5)]


def _flower(x: float, y: float, radius: float, petals: str, heart: str) -> str:
    angles = np.arange(5) * 2 * np.pi / 5
    leaves = "".join(
        f'<circle fill="{petals}" cx="{x + 1.3 * radius * np.sin(a):.2f}" cy="{y - 1.3 * radius * np.cos(a):.2f}" '
        f'r="{radius:.2f}"/>'
        for a in angles
    )
    return f'{leaves}<circle fill="{heart}" cx="{x:.2f}" cy="{y:.2f}" r="{radius * 0.7:.2f}"/>'


def _star(middle: tuple[float, float], points: int, fill: str, heart: str) -> str:
    x, y = middle
    turns = np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2, 5.0, 11.0)
    outline = list(zip((x + radius * np.sin(turns)).tolist(), (y - radius * np.cos(turns)).tolist(), strict=True))
    return f'<path fill="{fill}" d="{_closed(outline)}"/><circle fill="{heart}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'


def _open(points: Points) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _closed(points: Points) -> str:
    return _open(points) + "Z"


def _mix(one: _RGB, other: _RGB, part: float) -> _RGB:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _hex(colour: _RGB) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)
