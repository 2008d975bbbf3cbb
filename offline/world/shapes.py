"""Outlines of garments in a frame 100 wide and 150 high, laid flat and seen from the front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Points = Sequence[tuple[float, float]]

_ROOM = (84.0, 126.0)
_LARGEST = 1.35


@dataclass
class Shape:
    """What to draw: `parts` filled with cloth, less `holes`; `accents` filled darker; `seams` and `dots` on top.
    `middle` is where a print goes."""

    parts: list[Points]
    holes: list[Points] = field(default_factory=list)
    accents: list[Points] = field(default_factory=list)
    seams: list[Points] = field(default_factory=list)
    dots: list[tuple[float, float, float]] = field(default_factory=list)
    middle: tuple[float, float] = (50, 70)


def garment_shape(garment: str, rng: np.random.Generator) -> Shape:
    """The outline of a product type, its measures varied a little by `rng`, as large as the frame allows."""
    return _fitted(_SHAPES[garment](rng))


def _fitted(shape: Shape) -> Shape:
    xs, ys = zip(*(point for part in (*shape.parts, *shape.accents) for point in part), strict=True)
    scale = min(_ROOM[0] / (max(xs) - min(xs)), _ROOM[1] / (max(ys) - min(ys)), _LARGEST)
    left, above = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2

    def move(points: Points) -> Points:
        return [(50 + (x - left) * scale, 75 + (y - above) * scale) for x, y in points]

    return Shape(
        parts=list(map(move, shape.parts)),
        holes=list(map(move, shape.holes)),
        accents=list(map(move, shape.accents)),
        seams=list(map(move, shape.seams)),
        dots=[(*move([(x, y)])[0], radius * scale) for x, y, radius in shape.dots],
        middle=move([shape.middle])[0],
    )


def _mirror(points: Points) -> Points:
    return [(100 - x, y) for x, y in points]


def _both(half: Points) -> Points:
    """A closed symmetric outline from its left half, from the middle above to the middle below."""
    return [*half, *_mirror(half)[::-1]]


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float, n: int = 16) -> Points:
    """Points of an ellipse, angles in turns, 0 at the right and growing downwards."""
    angles = np.linspace(start, end, n) * 2 * np.pi
    return [(float(x + rx * np.cos(a)), float(y + ry * np.sin(a))) for a in angles]


def _upper(
    rng: np.random.Generator, *, sleeve: float, length: float = 66, flare: float = 0, neck: float = 6, width: float = 21
) -> Shape:
    """A top: `sleeve` 0..1 of the arm, `length` below the shoulder, `flare` wider at the hem, `neck` deep."""
    top, side = 30.0, 50 - width - float(rng.uniform(-1.5, 1.5))
    hem = top + length * float(rng.uniform(0.96, 1.04))
    body = _both(
        [
            (50, top + neck),
            (45, top + neck * 0.8),
            (41, top),
            (side + 2, top + 5),
            (side + 3, top + 27),
            (side - flare, hem),
            (50, hem + 1),
        ]
    )
    shape = Shape([body], middle=(50, top + 30))
    shape.seams.append(_arc(50, top, 9, neck, 0, 0.5))
    if sleeve > 0:
        reach = 12 + 44 * sleeve
        out = 8 + 6 * sleeve
        left: Points = [
            (side + 3, top + 4),
            (side - out + 2, top + reach - 3),
            (side - out + 11, top + reach + 1),
            (side + 4, top + 24),
        ]
        shape.parts = [left, _mirror(left), body]
        shape.seams += [
            [(side + 3, top + 5), (side + 5, top + 24)],
            _mirror([(side + 3, top + 5), (side + 5, top + 24)]),
        ]
    shape.seams.append([(side - flare + 1, hem - 4), (99 - side + flare, hem - 4)])
    return shape


def _t_shirt(rng: np.random.Generator) -> Shape:
    return _upper(rng, sleeve=0.2)


def _vest_top(rng: np.random.Generator) -> Shape:
    hem = 96 + float(rng.uniform(-3, 3))
    body = _both([(50, 46), (42, 44), (40, 26), (36, 26), (34, 44), (30, 52), (31, hem), (50, hem + 1)])
    return Shape([body], seams=[[(32, hem - 3), (68, hem - 3)]], middle=(50, 68))


def _shirt(rng: np.random.Generator) -> Shape:
    shape = _upper(rng, sleeve=0.95, neck=5)
    shape.accents = [[(41, 29), (50, 36), (45, 42), (38, 33)], _mirror([(41, 29), (50, 36), (45, 42), (38, 33)])]
    shape.seams.append([(50, 36), (50, 96)])
    shape.dots = [(52.5, y, 0.9) for y in (46, 56, 66, 76, 86)]
    return shape


def _blouse(rng: np.random.Generator) -> Shape:
    shape = _upper(rng, sleeve=0, length=58, flare=5, neck=10)
    puff = [(31, 33), (19, 40), (14, 54), (18, 66), (27, 66), (33, 56)]
    shape.parts = [puff, _mirror(puff), *shape.parts]
    shape.seams += [[(18, 64), (27, 64)], _mirror([(18, 64), (27, 64)]), [(44, 42), (47, 60)], [(56, 42), (53, 60)]]
    return shape


def _sweater(rng: np.random.Generator) -> Shape:
    shape = _upper(rng, sleeve=1, length=64, width=23, neck=5)
    shape.seams += [[(x, 91), (x, 95)] for x in range(29, 73, 3)]
    shape.seams.append(_arc(50, 30, 11, 7.5, 0, 0.5))
    return shape


def _open_front(rng: np.random.Generator, *, length: float, width: float) -> Shape:
    shape = _upper(rng, sleeve=1, length=length, width=width, neck=20)
    shape.seams.append([(50, 50), (50, 30 + length)])
    return shape


def _cardigan(rng: np.random.Generator) -> Shape:
    shape = _open_front(rng, length=64, width=22)
    shape.dots = [(52.5, y, 1.1) for y in (54, 64, 74, 84)]
    shape.seams += [[(34, 74), (43, 74)], [(57, 74), (66, 74)]]
    return shape


def _hoodie(rng: np.random.Generator) -> Shape:
    shape = _upper(rng, sleeve=1, length=66, width=24, neck=8)
    shape.parts.append([*_arc(50, 30, 14, 15, 0.5, 1.0), (61, 36), (50, 41), (39, 36)])
    shape.accents = [_arc(50, 31, 8, 9, 0, 1, 24)]
    shape.seams += [[(47, 40), (46, 54)], [(53, 40), (54, 54)], [(36, 90), (40, 76), (60, 76), (64, 90)]]
    return shape


def _jacket(rng: np.random.Generator) -> Shape:
    shape = _upper(rng, sleeve=1, length=60, width=25, neck=3)
    shape.accents = [[(41, 25), (59, 25), (61, 34), (39, 34)], [(33, 70), (42, 67), (42, 69.5), (33, 72.5)]]
    shape.accents.append(_mirror(shape.accents[1]))
    shape.seams += [[(49.2, 34), (49.2, 90)], [(50.8, 34), (50.8, 90)]]
    return shape


def _coat(rng: np.random.Generator) -> Shape:
    shape = _upper(rng, sleeve=0.95, length=96, width=24, flare=3, neck=14)
    lapel = [(41, 29), (50, 58), (40, 50), (36, 42), (39, 40)]
    shape.accents = [lapel, _mirror(lapel)]
    shape.seams += [[(50, 58), (50, 125)], [(32, 88), (42, 88)], [(58, 88), (68, 88)]]
    shape.dots = [(54, 66, 1.3), (54, 80, 1.3)]
    return shape


def _dress(rng: np.random.Generator) -> Shape:
    hem, wide = 126 + float(rng.uniform(-12, 8)), float(rng.uniform(12, 22))
    half = [(50, 38), (43, 34), (40, 24), (35, 24), (32, 42), (35, 66), (33 - wide, hem), (50, hem + 3)]
    shape = Shape([_both(half)], middle=(50, 54))
    if rng.random() < 0.6:
        left = [(35, 24), (24, 42), (31, 47), (33, 40)]
        shape.parts = [left, _mirror(left), *shape.parts]
    shape.seams = [[(35, 66), (65, 66)], [(42, 70), (36, hem - 2)], [(58, 70), (64, hem - 2)], [(50, 70), (50, hem)]]
    return shape


def _skirt(rng: np.random.Generator) -> Shape:
    hem, wide = 106 + float(rng.uniform(-16, 14)), float(rng.uniform(2, 16))
    shape = Shape([_both([(50, 38), (34, 38), (31 - wide / 2, 70), (29 - wide, hem), (50, hem + 3)])], middle=(50, 76))
    shape.accents = [[(34, 36), (66, 36), (67, 42), (33, 42)]]
    shape.seams = [[(43, 44), (40 - wide / 3, hem)], [(57, 44), (60 + wide / 3, hem)]]
    return shape


def _legs(*, hem: float, wide: float, waist: float = 18, crotch: float = 62) -> Shape:
    """`wide` is half the width of a leg at the hem."""
    middle = 50 - waist * 0.62 - (3 if hem > 100 else 4)
    half = [(50, 26), (50 - waist, 26), (50 - waist - 4, 48), (middle - wide, hem), (middle + wide, hem), (50, crotch)]
    shape = Shape([_both(half)], middle=(42, 52))
    shape.accents = [[(50 - waist, 24), (50 + waist, 24), (50.5 + waist, 30), (49.5 - waist, 30)]]
    shape.seams = [[(50, 30), (50, crotch)]]
    return shape


def _trousers(rng: np.random.Generator) -> Shape:
    shape = _legs(hem=134, wide=float(rng.uniform(5.5, 10)))
    shape.seams += [[(34, 32), (30, 42)], [(66, 32), (70, 42)], [(38, 62), (36, 130)], [(62, 62), (64, 130)]]
    return shape


def _shorts(rng: np.random.Generator) -> Shape:
    shape = _legs(hem=84 + float(rng.uniform(-4, 8)), wide=12.5, crotch=64)
    shape.seams += [[(34, 32), (29, 44)], [(66, 32), (71, 44)], [(47, 32), (46, 42)], [(53, 32), (54, 42)]]
    return shape


def _leggings(rng: np.random.Generator) -> Shape:
    return _legs(hem=134, wide=4.2, waist=15, crotch=58 + float(rng.uniform(-2, 2)))


def _sneakers(rng: np.random.Generator) -> Shape:
    high = 66 + float(rng.uniform(-6, 4))
    upper = [
        (17, high + 2),
        (22, high),
        (30, 70),
        (42, 72),
        (58, 84),
        (78, 88),
        (85, 96),
        (85, 102),
        (16, 102),
        (15, 84),
    ]
    sole = [(14, 101), (86, 101), (87, 106), (84, 110), (17, 110), (14, 106)]
    shape = Shape([upper], accents=[sole], middle=(30, 86))
    shape.seams = [[(42 + 5 * i, 76 + 3.4 * i), (37 + 5 * i, 82 + 3.4 * i)] for i in range(4)]
    shape.seams += [[(17, 84), (28, 84), (30, 101)], [(66, 88), (62, 101)]]
    return shape


def _boots(rng: np.random.Generator) -> Shape:
    high = 34 + float(rng.uniform(0, 24))
    upper = [(28, high), (54, high), (54, 88), (62, 95), (78, 99), (84, 107), (84, 113), (28, 113)]
    shape = Shape([upper], middle=(41, (high + 100) / 2))
    shape.accents = [[(27, 112), (85, 112), (84, 117), (46, 117), (46, 125), (28, 125)]]
    shape.seams = [[(28, high + 4), (54, high + 4)], [(50, high + 8), (50, 96)], [(28, 98), (52, 98)]]
    return shape


def _sandals(rng: np.random.Generator) -> Shape:
    sole = [(14, 96), (40, 98), (60, 101), (86, 101), (88, 106), (82, 111), (16, 111), (12, 104)]
    wide = float(rng.uniform(8, 12))
    straps: list[Points] = [
        [(58, 102), (62, 84), (62 + wide, 82), (70 + wide, 102)],
        [(20, 98), (22, 74), (30, 72), (34, 99)],
        [(22, 76), (44, 70), (46, 76), (24, 83)],
    ]
    return Shape([*straps, sole], seams=[[(14, 104), (86, 105)]], dots=[(43, 73.5, 1.4)], middle=(27, 86))


def _bag(rng: np.random.Generator) -> Shape:
    slant, top = float(rng.uniform(0, 7)), 64 + float(rng.uniform(-6, 6))
    body = _both([(50, top), (22 + slant, top), (17, 118), (20, 122), (50, 122)])
    handle = [*_arc(50, top, 18, 32, 0.5, 1.0), *_arc(50, top, 14, 27, 1.0, 0.5)]
    shape = Shape([handle, body], middle=(50, top + 32))
    shape.accents = [[(23 + slant, top), (77 - slant, top), (77 - slant, top + 6), (23 + slant, top + 6)]]
    shape.dots = [(34, top + 3, 1.6), (66, top + 3, 1.6)]
    return shape


def _beanie(rng: np.random.Generator) -> Shape:
    crown = [*_arc(50, 88, 29, 40, 0.5, 1.0, 24), (79, 92), (21, 92)]
    shape = Shape([crown], middle=(50, 68))
    shape.accents = [[(19, 88), (81, 88), (82, 103), (80, 106), (20, 106), (18, 103)]]
    if rng.random() < 0.5:
        shape.parts.append(_arc(50, 45, 8, 8, 0, 1, 24))
    shape.seams = [[(x, 89), (x, 105)] for x in range(24, 80, 5)]
    return shape


def _scarf(rng: np.random.Generator) -> Shape:
    low = 118 + float(rng.uniform(-8, 8))
    loop = _arc(50, 48, 25, 20, 0, 1, 32)
    tails: list[Points] = [
        [(38, 58), (53, 58), (50, low), (33, low)],
        [(50, 60), (64, 56), (70, low - 12), (54, low - 12)],
    ]
    shape = Shape([tails[1], tails[0], loop], holes=[_arc(50, 41, 14, 8, 0, 1, 24)], middle=(43, 86))
    shape.seams = [[(x, low), (x - 0.4, low + 6)] for x in np.arange(34, 51, 2.6).tolist()]
    shape.seams += [[(x, low - 12), (x + 0.4, low - 6)] for x in np.arange(55, 70, 2.6).tolist()]
    return shape


def _socks(rng: np.random.Generator) -> Shape:
    top = 36 + float(rng.uniform(0, 26))
    one: Points = [(24, top), (41, top), (41, 88), (56, 100), (57, 110), (50, 114), (36, 108), (25, 97)]
    two: Points = [(x + 22, y + 8) for x, y in one]
    shape = Shape([two, one], middle=(32, 76))
    shape.seams = [[(24, top + 7), (41, top + 7)], [(46, top + 15), (63, top + 15)], [(25, 94), (36, 86), (41, 88)]]
    return shape


def _swimsuit(rng: np.random.Generator) -> Shape:
    deep = float(rng.uniform(42, 56))
    half = [(50, deep), (43, 44), (40, 24), (36, 24), (34, 42), (31, 54), (35, 72), (30, 90), (44, 112), (50, 113)]
    return Shape([_both(half)], seams=[[(35, 72), (50, 75), (65, 72)]], middle=(50, 84))


_SHAPES: dict[str, Callable[[np.random.Generator], Shape]] = {
    "T-shirt": _t_shirt,
    "Vest top": _vest_top,
    "Shirt": _shirt,
    "Blouse": _blouse,
    "Sweater": _sweater,
    "Cardigan": _cardigan,
    "Hoodie": _hoodie,
    "Jacket": _jacket,
    "Coat": _coat,
    "Dress": _dress,
    "Skirt": _skirt,
    "Trousers": _trousers,
    "Shorts": _shorts,
    "Leggings/Tights": _leggings,
    "Sneakers": _sneakers,
    "Boots": _boots,
    "Sandals": _sandals,
    "Bag": _bag,
    "Hat/beanie": _beanie,
    "Scarf": _scarf,
    "Socks": _socks,
    "Swimsuit": _swimsuit,
}
