"""Modiste's own impressions, from the archive of topic `impressions`, with what was bought afterwards as the reward.

A row is one article at one place of one list. Its reward is 1 if the same customer bought the article within the
horizon after it was shown, else 0: what happened afterwards, not because of it. Lists that were shown less than the
horizon before the log ends are left out, for their reward is not known yet. Places are judged one by one: an article's
reward depends on the article and its place, not on its neighbours (the item-position model of Li, Abbasi-Yadkori,
Kveton, Muthukrishnan, Vinay and Wen 2018, "Offline evaluation of ranking policies with click models", KDD:1685-1694).

Modiste's responder shows what the bundle ranks highest and draws nothing, so an item without `propensity` had chance 1:
this log knows what was shown and cannot know what was not. Two ways on: a shop that draws some places at random writes
`propensity` into its impressions, or compares strategies live.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from infra.errors import ConfigurationError, DataError, InvalidMessage
from offline.counterfactual.log import Floats
from offline.counterfactual.shown import Shown
from offline.event_log import EventLog
from serving.impressions import Impression, parse_impression
from streams.archive import TopicArchive, read_rows
from streams.archive_compaction import compact
from streams.events import from_micros, to_micros
from streams.topics import IMPRESSIONS


@dataclass(frozen=True, eq=False)
class Archived:
    """drawn: share of rows that say their propensity · unreadable: messages that are no impressions · repeated: lists
    told again under the same request_id."""

    shown: Shown
    drawn: float
    unreadable: int
    repeated: int


def read_impressions(directory: Path) -> Archived:
    """All impressions of an archive, in time order.

    Raises:
        ConfigurationError: it has none · DataError: an item whose propensity or position cannot be.
    """
    archive = TopicArchive(directory, IMPRESSIONS)
    if not archive.path.is_dir():
        raise ConfigurationError(
            f"no archive of {IMPRESSIONS} in {directory}; `modiste streams archiver` writes one while lists are shown"
        )
    compact(archive)
    met: dict[str, Impression] = {}
    unreadable = repeated = 0
    for raw in _messages(archive):
        try:
            impression = parse_impression(raw)
        except InvalidMessage:
            unreadable += 1
            continue
        repeated += impression.request_id in met
        met.setdefault(impression.request_id, impression)
    lists = sorted(met.values(), key=lambda one: (one.shown_at, one.request_id))
    rows = [(one, item) for one in lists for item in one.items]
    given = np.array([np.nan if item.propensity is None else item.propensity for _, item in rows], np.float64)
    missing = np.array([item.propensity is None for _, item in rows], np.bool_)
    for number, (one, item) in enumerate(rows):
        if item.position < 1 or not (missing[number] or 0 < given[number] <= 1):
            raise DataError(
                f"request {one.request_id}, article {item.article_id}: position {item.position}, propensity "
                f"{item.propensity}; positions count from 1, a propensity is above 0 and up to 1",
                file=IMPRESSIONS,
                row=number,
            )
    shown = Shown(
        request=np.array([one.request_id for one, _ in rows], np.object_),
        customer=np.array([one.customer_id for one, _ in rows], np.object_),
        article=np.array([item.article_id for _, item in rows], np.object_),
        position=np.array([item.position - 1 for _, item in rows], np.int64),
        propensity=np.where(missing, 1.0, given),
        shown_at=np.array([to_micros(one.shown_at) for one, _ in rows], np.int64),
    )
    return Archived(shown, float(1 - missing.mean()) if rows else 0.0, unreadable, repeated)


def finished(shown: Shown, log: EventLog, horizon: timedelta) -> Shown:
    """The impressions whose horizon has passed when the log ends."""
    return shown.take(shown.shown_at <= to_micros(log.span[1] - horizon))


def bought_within(shown: Shown, log: EventLog, horizon: timedelta) -> Floats:
    """1 for each row whose customer bought its article after it was shown and at most `horizon` later: float64[n]."""
    if not len(shown):
        return np.empty(0)
    wanted = set(zip(shown.customer.tolist(), shown.article.tolist(), strict=True))
    bought: dict[tuple[str, str], list[int]] = defaultdict(list)
    first, last = from_micros(int(np.min(shown.shown_at))), from_micros(int(np.max(shown.shown_at))) + horizon
    for batch in log.scan(first, last + timedelta(microseconds=1)):
        part = batch.filter(pc.equal(batch["type"], "purchase"))
        names = zip(part["customer_id"].to_pylist(), part["article_id"].to_pylist(), strict=True)
        for pair, moment in zip(names, part["occurred_at"].cast("int64").to_pylist(), strict=True):
            if pair in wanted:
                bought[pair].append(moment)  # the log is in time order
    reach = horizon // timedelta(microseconds=1)
    found = np.zeros(len(shown))
    for row, pair in enumerate(zip(shown.customer.tolist(), shown.article.tolist(), strict=True)):
        moments = bought.get(pair, [])
        at = bisect_right(moments, int(shown.shown_at[row]))
        found[row] = at < len(moments) and moments[at] <= shown.shown_at[row] + reach
    return found


def _messages(archive: TopicArchive) -> Iterator[bytes]:
    for path in archive.day_files():
        for value in read_rows(path)["value"].to_pylist():
            yield value or b""
