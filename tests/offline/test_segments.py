"""Who belongs to which segment, counted by hand."""

from __future__ import annotations

import numpy as np

from offline.segments import activity, segments
from tests.offline.toy_log import CUT_US, bought, histories_of, viewed


def test_events_count_up_to_the_cut_and_not_after_it() -> None:
    lines = [
        *(bought(3 + n, "often", f"a{n}") for n in range(12)),
        bought(40, "lapsed", "a1"),
        viewed(20, "looker", "a1"),
        bought(-1, "future", "a1"),
        bought(-1, "often", "a1"),
    ]
    customers = ["future", "lapsed", "looker", "often", "unknown"]
    counts, days = activity(histories_of(lines), customers, CUT_US)
    assert counts.tolist() == [0, 1, 1, 12, 0]
    np.testing.assert_allclose(days, [np.inf, 40, 20, 3, np.inf])
    found = segments(counts, days)
    names = {name: [c for c, there in zip(customers, mask, strict=True) if there] for name, mask in found.items()}
    assert names == {
        "no event": ["future", "unknown"],
        "one event": ["lapsed", "looker"],
        "at most one event": ["future", "lapsed", "looker", "unknown"],
        "10-99 events": ["often"],
        "seen in the last 7 days": ["often"],
        "last seen 8-28 days ago": ["looker"],
        "lapsed, last seen over 28 days ago": ["lapsed"],
    }


def test_every_customer_is_in_one_segment_of_each_kind() -> None:
    counts = np.array([0, 1, 2, 9, 10, 99, 100, 5_000])
    days = np.array([np.inf, 0.1, 7, 7.5, 28, 28.5, 90, 400])
    masks = segments(counts, days)
    by_size = [masks[name] for name in ("no event", "one event", "2-9 events", "10-99 events", "100+ events")]
    assert np.sum(by_size, axis=0).tolist() == [1] * 8
    by_time = [mask for name, mask in masks.items() if "seen" in name]
    assert np.sum(by_time, axis=0).tolist() == [0] + [1] * 7
