"""Times and names as a shopper reads them. Days are those of UTC: nobody told us the customer's own."""

from __future__ import annotations

from datetime import datetime

from serving.items import ItemTable
from streams.events import CART, PURCHASE, VIEW

LONGEST_NAME = 80  # characters
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
DID = {PURCHASE: "bought {}", CART: "put {} in your cart", VIEW: "looked at {}"}


def ago(then: datetime, now: datetime) -> str:
    """When `then` was, seen from `now`, which is not before it."""
    days = (now.date() - then.date()).days
    if days < 2:
        return ("today", "yesterday")[days]
    if 7 <= days <= 7 + now.weekday():
        return "last week"
    if days < 14:
        return f"{days} days ago"
    months = (now.year - then.year) * 12 + now.month - then.month
    if days < 28 or months == 0:
        return f"{round(days / 7)} weeks ago"
    if months == 1:
        return "last month"
    month = MONTHS[then.month - 1]
    return f"in {month}" if months < 12 else f"in {month} {then.year}"


def name_of(items: ItemTable, row: int) -> str | None:
    """What an article is called: its title, else its subcategory or category; None where nothing is known. On one line,
    whatever the catalogue holds."""
    told = items.titles[row] or items.label("subcategory", row) or items.label("category", row) or ""
    line = " ".join("".join(c if c.isprintable() else " " for c in told).split())
    if len(line) > LONGEST_NAME:
        line = line[: LONGEST_NAME - 1].rstrip() + "…"
    return tidy(line) or None


def tidy(text: str) -> str:
    """Titles of some catalogues are in capitals throughout; those are set like the others."""
    return text.capitalize() if text.isupper() and len(text) > 3 else text


def every(days: float) -> str:
    """How often something happens that happens every so many days, at least one."""
    if days < 1.5:
        return "nearly every day"
    if days < 60:
        return f"about every {round(days)} days"
    return f"about every {round(days / 30.4)} months"
