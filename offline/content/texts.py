"""What is written about the articles of a table (serving/article_texts.py), by columns."""

from __future__ import annotations

import pyarrow as pa

from serving.article_texts import PARTS, unsaid


def article_texts(articles: pa.Table) -> list[str]:
    """One line for each row of ARTICLE_SCHEMA; "" for an article of which nothing is known."""
    return [joined(*row) for row in zip(*article_parts(articles), strict=True)]


def article_parts(articles: pa.Table) -> list[list[str]]:
    """For each of PARTS the texts of all rows of ARTICLE_SCHEMA; "" where a part says nothing (new)."""
    columns = [[articles[name].to_pylist() for name in names] for names, _ in PARTS]
    parts: list[list[str]] = [[] for _ in PARTS]
    for row in range(articles.num_rows):
        seen: list[str] = []
        for out, fields in zip(parts, columns, strict=True):
            out.append(unsaid([field[row] for field in fields], seen))
    return parts


def joined(*parts: str | None) -> str:
    """The parts in one line; a piece that stands within an earlier one, whatever its case, is left out."""
    return unsaid(parts, [])
