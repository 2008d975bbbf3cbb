"""Answers over HTTP that hold items as those of the topic `recommendations` do."""

from __future__ import annotations

from datetime import datetime

import msgspec

from serving.messages import Item, Recommendations


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with its trace, and when it was given."""

    request_id: str
    answered_at: datetime
    answer: Recommendations


class Similar(msgspec.Struct, frozen=True, kw_only=True):
    """Articles like `article_id`, best first; none where nothing is known that could tell. score: the cosine, or for
    `covisitation` the share of the occasions with this article that had the other one too."""

    article_id: str
    by: str
    bundle_id: str
    items: list[Item]
