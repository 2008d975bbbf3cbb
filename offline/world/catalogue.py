"""The articles of the synthetic world: products in colour variants, launched and withdrawn over time.

A product has one department, garment, style, price band and pattern; its variants differ in colour. The article
table has H&M's 25 columns, and its titles and descriptions say what the drawn picture shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from offline.world.seasons import garment_seasons
from offline.world.settings import WorldSize, generator
from offline.world.vocabulary import (
    BANDS,
    COLOURS,
    DEPARTMENT_LETTERS,
    DEPARTMENTS,
    GARMENTS,
    PATTERN_WORDS,
    PATTERNS,
    STYLES,
)

_Indices = npt.NDArray[np.int64]
_Numbers = npt.NDArray[np.float64]

FIRST_PRODUCT = 100_000
# Days before the first one in which the assortment of the first day was launched.
BEFORE = 200
_STAYS = 0.3  # share of products that are never withdrawn
_VARIANTS = (0.35, 0.3, 0.2, 0.1, 0.05)
_NAMES = ("Al", "Be", "Ci", "Da", "El", "Fe", "Ga", "Ho", "Ine", "Ju", "Ka", "Li", "Mi", "No", "Ro", "Sa", "Ti", "Vi")
_ENDINGS = ("ma", "na", "ra", "lo", "nn", "vin", "sse")


@dataclass(frozen=True)
class Catalogue:
    """n articles, one row each; the attribute columns index the tuples of `vocabulary`.

    `launch` is the first day on sale (negative: before the world's first day), `end` the first day off sale again.
    `appeal` > 0 is what makes some articles sell better than others of their kind; `price` is the full price.
    """

    product: _Indices
    variant: _Indices
    department: _Indices
    garment: _Indices
    style: _Indices
    band: _Indices
    colour: _Indices
    pattern: _Indices
    launch: _Indices
    end: _Indices
    appeal: _Numbers
    price: _Numbers

    def __len__(self) -> int:
        return len(self.product)

    @property
    def numbers(self) -> _Indices:
        """int64[n] article ids as numbers: product code, then three digits for the variant."""
        return self.product * 1000 + self.variant

    @property
    def ids(self) -> pa.Array:
        """The same as H&M writes them, 10 digits."""
        return pa.array([f"{number:010d}" for number in self.numbers.tolist()], pa.string())


def make_catalogue(size: WorldSize) -> Catalogue:
    """The articles of a world; equal for equal sizes and seeds."""
    rng = generator(size.seed, "catalogue")
    variants = rng.choice(np.arange(1, len(_VARIANTS) + 1), size.articles, p=_VARIANTS)
    products = int(np.searchsorted(np.cumsum(variants), size.articles)) + 1
    of = np.repeat(np.arange(products), variants[:products])[: size.articles]
    first = np.flatnonzero(np.diff(of, prepend=-1))

    pairs = [
        (d, g) for g, kind in enumerate(GARMENTS) for d, mark in enumerate(DEPARTMENT_LETTERS) if mark in kind.shop
    ]
    weights = np.array([DEPARTMENTS[d].share for d, _ in pairs])
    department, garment = np.array(pairs)[rng.choice(len(pairs), products, p=weights / weights.sum())].T
    style = rng.integers(len(STYLES), size=products)
    band = rng.choice(len(BANDS), products, p=(0.4, 0.4, 0.2))
    pattern = _pick_rows(np.array([s.patterns for s in STYLES])[style], rng)
    launch, life = _spans(garment, size, rng)
    appeal = rng.lognormal(0.0, 0.9, products)
    price = np.array([g.price for g in GARMENTS])[garment] * np.array([f for _, f in BANDS])[band]
    price = np.maximum(np.round(price * rng.uniform(0.85, 1.15, products)), 2) - 0.01

    return Catalogue(
        product=FIRST_PRODUCT + of,
        variant=np.arange(size.articles) - first[of] + 1,
        department=department[of],
        garment=garment[of],
        style=style[of],
        band=band[of],
        colour=_colours(of, rng),
        pattern=pattern[of],
        launch=(launch[of] + np.where(launch[of] < 0, 0, rng.integers(0, 10, len(of)))),
        end=(launch + life)[of],
        appeal=appeal[of] * rng.lognormal(0.0, 0.4, len(of)),
        price=price[of],
    )


def _spans(garment: _Indices, size: WorldSize, rng: np.random.Generator) -> tuple[_Indices, _Indices]:
    """Launch day and days on sale of each product: a garment comes some weeks before its season."""
    days = np.arange(-BEFORE, size.days)
    seasons = garment_seasons(days + 30)
    launch = np.empty(len(garment), np.int64)
    for kind in np.unique(garment):
        mine = garment == kind
        launch[mine] = rng.choice(days, int(mine.sum()), p=seasons[:, kind] / seasons[:, kind].sum())
    life = rng.integers(70, 180, len(garment))
    stays = rng.random(len(garment)) < _STAYS
    stays[0] = True  # so that a shop of one article is never empty
    launch[stays] = -rng.integers(1, BEFORE, int(stays.sum()))
    life[stays] = BEFORE + size.days + 1
    return launch, life


def _colours(of: _Indices, rng: np.random.Generator) -> _Indices:
    """A colour for each article; the variants of a product have different ones (Gumbel top-k over the shares)."""
    shares = np.log([colour.share for colour in COLOURS])
    ranked = np.argsort(-(shares + rng.gumbel(size=(int(of[-1]) + 1, len(COLOURS)))), axis=1)
    first = np.flatnonzero(np.diff(of, prepend=-1))
    return np.asarray(ranked[of, np.arange(len(of)) - first[of]], np.int64)


def _pick_rows(weights: _Numbers, rng: np.random.Generator) -> _Indices:
    """One column index for each row, with probability in proportion to the weights."""
    edges = np.cumsum(weights, axis=1)
    return np.asarray((edges < rng.random((len(weights), 1)) * edges[:, -1:]).sum(axis=1), np.int64)


def title(product: int, garment: int, style: int) -> str:
    """`Alna clean t-shirt`: a name that is the product's own, and what it is."""
    first, second = _NAMES[product % len(_NAMES)], _ENDINGS[product // len(_NAMES) % len(_ENDINGS)]
    return f"{first}{second} {STYLES[style].adjective.lower()} {_noun(garment)}"


def description(garment: int, style: int, pattern: int, colour: int) -> str:
    """What the picture shows, in words."""
    kind, taste = GARMENTS[garment], STYLES[style]
    words = f"{taste.adjective}, {PATTERN_WORDS[pattern]}{_noun(garment)} in {COLOURS[colour].name.lower()}"
    return f"{words}, made of {kind.fabric} with {kind.detail}. {taste.sentence}"


def _noun(garment: int) -> str:
    return GARMENTS[garment].name.split("/")[0].lower()


def article_table(catalogue: Catalogue) -> pa.Table:
    """The articles with the columns of H&M's `articles.csv`."""
    columns = [
        c.tolist()
        for c in (
            catalogue.product,
            catalogue.department,
            catalogue.garment,
            catalogue.style,
            catalogue.band,
            catalogue.colour,
            catalogue.pattern,
        )
    ]
    rows = [_article_row(*row) for row in zip(*columns, strict=True)]
    table = pa.Table.from_pylist(rows)
    return table.add_column(0, "article_id", catalogue.ids)


def _article_row(
    product: int, department: int, garment: int, style: int, band: int, colour: int, pattern: int
) -> dict[str, str | int]:
    shop, kind, paint = DEPARTMENTS[department], GARMENTS[garment], COLOURS[colour]
    groups = sorted({g.garment_group for g in GARMENTS})
    families = sorted({c.family for c in COLOURS})
    light = sum(paint.rgb) / 3
    value = "Dark" if light < 90 else "Light" if light > 180 else "Medium"
    return {
        "product_code": product,
        "prod_name": title(product, garment, style),
        "product_type_no": kind.number,
        "product_type_name": kind.name,
        "product_group_name": kind.group,
        "graphical_appearance_no": PATTERNS[pattern][1],
        "graphical_appearance_name": PATTERNS[pattern][0],
        "colour_group_code": paint.number,
        "colour_group_name": paint.name,
        "perceived_colour_value_id": ("Dark", "Light", "Medium").index(value) + 1,
        "perceived_colour_value_name": value,
        "perceived_colour_master_id": families.index(paint.family) + 1,
        "perceived_colour_master_name": paint.family,
        "department_no": 1000 + 10 * department + band,
        "department_name": f"{shop.name} {BANDS[band][0]}",
        "index_code": DEPARTMENT_LETTERS[department],
        "index_name": shop.index,
        "index_group_no": department + 1,
        "index_group_name": shop.name,
        "section_no": department + 1,
        "section_name": shop.section,
        "garment_group_no": 1001 + groups.index(kind.garment_group),
        "garment_group_name": kind.garment_group,
        "detail_desc": description(garment, style, pattern, colour),
    }
