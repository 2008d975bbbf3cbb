"""What the synthetic fashion world is made of: departments, garments, styles, price bands, colours, patterns.

Names and numbers of garments, colours and patterns are those of H&M's article table, so that the world reads like
the real one. `warmth` says when a garment or colour is in season: +1 deep winter, -1 high summer, 0 all year.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Department:
    """`share` of customers who mainly buy here; `index` and `section` are H&M's words for it."""

    name: str
    index: str
    section: str
    share: float


@dataclass(frozen=True)
class Garment:
    """One product type. `shop` holds the departments that sell it, `replenish` how often it is bought again."""

    name: str
    number: int
    group: str
    garment_group: str
    price: float
    warmth: float
    replenish: float
    shop: str
    fabric: str
    detail: str


@dataclass(frozen=True)
class Style:
    """A taste that shows in words and patterns. `patterns` are shares in the order of PATTERNS; `age` is its centre."""

    name: str
    adjective: str
    sentence: str
    age: float
    patterns: tuple[float, ...]


@dataclass(frozen=True)
class Colour:
    """A colour with H&M's number, its family, sRGB, share of the articles and season."""

    name: str
    number: int
    family: str
    rgb: tuple[int, int, int]
    share: float
    warmth: float


WOMEN, MEN, KIDS, SPORT = "WMKS"
DEPARTMENTS = (
    Department("Ladies", "Ladieswear", "Womens Everyday Collection", 0.5),
    Department("Men", "Menswear", "Contemporary Casual", 0.27),
    Department("Kids", "Children Sizes 92-140", "Kids Outerwear & Basics", 0.13),
    Department("Sport", "Sport", "H&M Sport", 0.1),
)
DEPARTMENT_LETTERS = WOMEN + MEN + KIDS + SPORT

UPPER, LOWER, FULL = "Garment Upper body", "Garment Lower body", "Garment Full body"
GARMENTS = (
    Garment("T-shirt", 255, UPPER, "Jersey Basic", 12.99, -0.35, 1.0, "WMKS", "soft jersey", "a round neckline"),
    Garment("Vest top", 253, UPPER, "Jersey Basic", 8.99, -0.8, 0.8, "WMKS", "ribbed jersey", "narrow straps"),
    Garment("Shirt", 259, UPPER, "Shirts", 29.99, 0.0, 0.4, "WMK", "cotton poplin", "a turn-down collar and buttons"),
    Garment("Blouse", 258, UPPER, "Blouses", 24.99, -0.2, 0.3, "WK", "airy woven fabric", "puff sleeves"),
    Garment("Sweater", 252, UPPER, "Knitwear", 34.99, 0.8, 0.3, "WMK", "a soft knit", "ribbing at cuffs and hem"),
    Garment("Cardigan", 245, UPPER, "Knitwear", 34.99, 0.5, 0.3, "WMK", "a fine knit", "buttons down the front"),
    Garment("Hoodie", 308, UPPER, "Jersey Fancy", 29.99, 0.4, 0.3, "WMKS", "brushed sweatshirt fabric", "a lined hood"),
    Garment("Jacket", 262, UPPER, "Outdoor", 59.99, 0.5, 0.05, "WMKS", "woven fabric", "a zip and side pockets"),
    Garment("Coat", 263, UPPER, "Outdoor", 99.99, 1.0, 0.02, "WMK", "a wool blend", "notch lapels and a long cut"),
    Garment("Dress", 265, FULL, "Dresses Ladies", 39.99, -0.6, 0.1, "WK", "viscose crêpe", "a seam at the waist"),
    Garment("Skirt", 275, LOWER, "Skirts", 24.99, -0.4, 0.1, "WK", "twill", "a concealed zip"),
    Garment("Trousers", 272, LOWER, "Trousers", 39.99, 0.2, 0.4, "WMKS", "stretch cotton", "a regular waist"),
    Garment("Shorts", 274, LOWER, "Shorts", 19.99, -1.0, 0.3, "WMKS", "washed cotton", "an elasticated waist"),
    Garment("Leggings/Tights", 273, LOWER, "Jersey Basic", 9.99, 0.2, 1.0, "WKS", "stretch jersey", "a covered waist"),
    Garment("Sneakers", 94, "Shoes", "Shoes", 44.99, -0.1, 0.2, "WMKS", "canvas", "laces and a chunky sole"),
    Garment("Boots", 87, "Shoes", "Shoes", 69.99, 0.9, 0.05, "WMK", "imitation leather", "a block heel"),
    Garment("Sandals", 91, "Shoes", "Shoes", 29.99, -1.0, 0.1, "WMK", "imitation suede", "adjustable straps"),
    Garment("Bag", 66, "Accessories", "Accessories", 29.99, 0.0, 0.05, "WMS", "grained fabric", "two handles"),
    Garment("Hat/beanie", 75, "Accessories", "Accessories", 9.99, 1.0, 0.3, "WMKS", "a rib knit", "a wide cuff"),
    Garment("Scarf", 80, "Accessories", "Accessories", 14.99, 0.9, 0.2, "WMK", "a soft weave", "fringes"),
    Garment(
        "Socks", 302, "Socks & Tights", "Socks and Tights", 4.99, 0.2, 2.0, "WMKS", "a cotton blend", "ribbed tops"
    ),
    Garment("Swimsuit", 57, "Swimwear", "Swimwear", 24.99, -1.0, 0.1, "WKS", "quick-drying fabric", "a low back"),
)

PATTERNS = (
    ("Solid", 1010016),
    ("Stripe", 1010017),
    ("Dot", 1010005),
    ("Check", 1010004),
    ("All over pattern", 1010001),
    ("Front print", 1010008),
)
PATTERN_WORDS = ("", "striped ", "spotted ", "checked ", "flower-patterned ", "printed ")
STYLES = (
    Style("minimal", "Clean", "Straight lines, nothing too much.", 40, (0.92, 0.06, 0, 0.02, 0, 0)),
    Style("classic", "Timeless", "Cut for years, not for a season.", 52, (0.5, 0.2, 0.03, 0.25, 0.02, 0)),
    Style("romantic", "Romantic", "Soft gathers and a light drape.", 33, (0.35, 0, 0.25, 0, 0.4, 0)),
    Style("street", "Oversized", "Roomy fit with dropped shoulders.", 22, (0.4, 0.05, 0, 0.1, 0, 0.45)),
    Style("sporty", "Sporty", "Moves with you, dries fast.", 29, (0.6, 0.3, 0, 0, 0, 0.1)),
    Style("bohemian", "Relaxed", "Loose weave with a crafted feel.", 45, (0.25, 0.15, 0.05, 0.15, 0.4, 0)),
)
# (name, factor on the garment's price)
BANDS = (("Basic", 0.65), ("Collection", 1.0), ("Premium", 1.8))

COLOURS = (
    Colour("Black", 9, "Black", (32, 32, 35), 0.2, 0.25),
    Colour("White", 10, "White", (236, 235, 230), 0.13, -0.35),
    Colour("Grey", 7, "Grey", (139, 140, 143), 0.1, 0.2),
    Colour("Dark Blue", 73, "Blue", (35, 48, 84), 0.14, 0.1),
    Colour("Light Blue", 71, "Blue", (147, 186, 220), 0.08, -0.3),
    Colour("Beige", 13, "Beige", (206, 182, 148), 0.09, 0.1),
    Colour("Light Pink", 51, "Pink", (238, 186, 196), 0.07, -0.3),
    Colour("Red", 42, "Red", (190, 36, 44), 0.06, 0.15),
    Colour("Dark Green", 93, "Green", (40, 84, 60), 0.05, 0.3),
    Colour("Yellow", 22, "Yellow", (238, 198, 70), 0.03, -0.5),
    Colour("Dark Orange", 33, "Orange", (207, 104, 44), 0.02, 0.1),
    Colour("Light Purple", 61, "Lilac Purple", (184, 162, 214), 0.03, -0.2),
)
