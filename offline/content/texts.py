"""The text of an article: its title, attributes and description in one line, nothing said twice."""

from __future__ import annotations

import pyarrow as pa

SEPARATOR = " · "
FIELDS = ("title", "department", "category", "subcategory", "colour", "brand")


def article_texts(articles: pa.Table) -> list[str]:
    """One line for each row of ARTICLE_SCHEMA; "" for an article of which nothing is known."""
    columns = [articles[name].to_pylist() for name in (*FIELDS, "text")]
    return [article_text(*row) for row in zip(*columns, strict=True)]


def article_text(*parts: str | None) -> str:
    """The parts in their order; a part that stands within an earlier one, whatever its case, is left out.

    Sources put attributes in front of the description or repeat the subcategory in the title. A sentence encoder
    reads a limited number of tokens, and weighs what it reads twice.
    """
    kept: list[str] = []
    seen: list[str] = []
    for part in parts:
        for piece in (part or "").split(SEPARATOR):
            text = " ".join(piece.split())
            folded = text.casefold()
            if text and not any(folded in earlier for earlier in seen):
                kept.append(text)
                seen.append(folded)
    return SEPARATOR.join(kept)
