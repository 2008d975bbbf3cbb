"""Who was better, by how much, and how sure that is: a finished ledger against what was bought.

Every step is judged alone and all of them together: every (customer, step) counts once, and customers are resampled
with all their steps (`offline/pooled.py`). Who bought nothing in a step is not judged in it, as in Kaggle's MAP@12;
articles of which nobody had heard at the cut are left out of what there was to find, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import combinations
from typing import Any

import msgspec
import numpy as np

from infra.errors import ConfigurationError, GateError
from offline.backtest.examples import example_customers
from offline.backtest.ledger import Ledger, StepNote
from offline.backtest.plan import BacktestPlan
from offline.backtest.tally import METRICS, Key, Sums, Tally
from offline.event_log import EventLog
from offline.metrics import Floats
from offline.pooled import Pooled
from offline.report import COLUMNS, verdict
from offline.scoreboard import HEADLINE

FEW = 30  # customers: of fewer, resampling tells less than its interval says

Row = dict[str, Any]


def judge(ledger: Ledger, log: EventLog, plan: BacktestPlan, baseline: str | None = None) -> dict[str, Any]:
    """What the report says of a backtest's lists: data, plan, contenders, steps, pooled, segments, variety,
    cost, examples.

    Args:
        baseline: the contender that the others are measured by; None: of those after the first, the best in MAP@12.

    Raises:
        ConfigurationError: no contender is called so.
        DataError: a step is not sealed, or its lists cannot be.
        GateError: nobody bought anything in any step.
    """
    names = [contender.name for contender in plan.contenders]
    if baseline is not None and baseline not in names:
        raise ConfigurationError(f"baseline {baseline!r}; the contenders are {', '.join(names)}")
    tally = Tally(ledger, log, plan)
    notes, found, alone = [], [], []
    for step in plan.steps:
        bought, scores = tally.add(step)
        notes.append(ledger.note(step.number))
        found.append(bought)
        alone.append(scores.result(plan.seed) if len(scores) else None)
    if not len(tally.everyone):
        raise GateError("nobody bought anything in any step; choose another --from and --to")
    everyone = tally.everyone.result(plan.seed)
    pairs = _pairs(everyone, names, baseline)
    subject, other = pairs[0] if pairs else (names[0], names[0])
    last = found[-1].truth.customers
    return {
        "data": _data(log),
        "plan": _plan(plan),
        "contenders": _contenders(plan, notes),
        "steps": [
            {
                **msgspec.to_builtins(note),
                "judged": len(bought.truth),
                "not_asked": bought.not_asked,
                "purchases": len(bought.truth.keys),
                "purchases_of_unknown_articles": bought.unknown,
                "metrics": {} if scores is None else _values(scores, names, METRICS),
                "comparisons": []
                if scores is None
                else [scores.compare(*pair, metric) for metric in HEADLINE for pair in pairs[:1]],
            }
            for note, bought, scores in zip(notes, found, alone, strict=True)
        ],
        "pooled": _pooled(everyone, names, pairs, plan),
        "segments": [_segment(key, sums, names, pairs, plan) for key, sums in tally.segments.items()],
        "variety": tally.variety,
        "cost": _cost(notes, tally.milliseconds),
        "examples": example_customers(
            ledger,
            log,
            plan.steps[-1],
            list(dict.fromkeys([subject, other])),
            last,
            tally.segments_of(last),
            plan.seed,
        ),
    }


def sentence(row: Row, steps: str) -> str:
    """A comparison as a verdict in words.

    >>> row = {"contender": "full", "baseline": "repurchase", "metric": "map@12", "verdict": "better", "ratio": 1.052}
    >>> sentence(row | {"ratio_interval": [1.034, 1.073], "customers": 1980}, "8 weeks")
    'full is better than repurchase by 5.2% [3.4, 7.3] in MAP@12 (8 weeks, 1,980 customers)'
    """
    who = f"{row['customers']:,} customer{'s' if row['customers'] != 1 else ''}"
    return f"{verdict(row)} in {COLUMNS[row['metric']]} ({steps}, {who})"


def steps_in_words(plan: BacktestPlan) -> str:
    """8 weeks, 1 day, 3 steps of 12h."""
    n = len(plan.steps)
    for unit, length in (("week", timedelta(weeks=1)), ("day", timedelta(days=1)), ("hour", timedelta(hours=1))):
        if plan.step == length and plan.steps[-1].until - plan.steps[-1].cut == length:
            return f"{n} {unit}{'s' if n != 1 else ''}"
    return f"{n} step{'s' if n != 1 else ''} of {duration(plan.step)}"


def duration(length: timedelta | None) -> str:
    """As it is written on the command line.

    >>> duration(timedelta(days=28)), duration(timedelta(hours=36)), duration(timedelta(seconds=90)), duration(None)
    ('28d', '36h', '90s', 'never')
    """
    if length is None:
        return "never"
    seconds = length.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:g}s"


def _pairs(everyone: Pooled, names: Sequence[str], baseline: str | None) -> list[tuple[str, str]]:
    """All pairs of contenders, those with the baseline first; the baseline is always the second of its pairs, and of
    two others the second is the one that was named later."""
    if baseline is None:
        others = names[1:] or names
        baseline = max(others, key=lambda name: everyone.mean(name, "map@12"))
    first = [(name, baseline) for name in names if name != baseline]
    return first + [pair for pair in combinations(names, 2) if baseline not in pair]


def _pooled(everyone: Pooled, names: Sequence[str], pairs: Sequence[tuple[str, str]], plan: BacktestPlan) -> Row:
    words = steps_in_words(plan)
    rows = [everyone.compare(*pair, metric) for metric in METRICS for pair in pairs]
    rows = [{**row, "sentence": sentence(row, words)} for row in rows]
    baseline = pairs[0][1] if pairs else names[0]
    subject = next((name for name in names if name != baseline), baseline)
    return {
        "customers": everyone.customers,
        "customer_steps": everyone.customer_steps,
        "baseline": baseline,
        "subject": subject,
        "metrics": _values(everyone, names, METRICS),
        "headline": [
            row
            for row in rows
            if (row["contender"], row["baseline"]) == (subject, baseline) and row["metric"] in HEADLINE
        ],
        "comparisons": rows,
    }


def _segment(key: Key, sums: Sums, names: Sequence[str], pairs: Sequence[tuple[str, str]], plan: BacktestPlan) -> Row:
    """One part, and there every contender over the baseline."""
    kind, name = key
    found = sums.pool.result(plan.seed)
    against = [pair for pair in pairs if pair[1] == pairs[0][1]]
    rows = [found.compare(*pair, metric) for metric in HEADLINE for pair in against]
    words = f"{name}, {steps_in_words(plan)}"
    return {
        "kind": kind,
        "name": name,
        "customers": found.customers,
        "customer_steps": found.customer_steps,
        "purchases": sums.purchases,
        "few": found.customers < FEW,
        "metrics": _values(found, names, HEADLINE),
        "comparisons": [{**row, "sentence": sentence(row, words)} for row in rows],
    }


def _values(found: Pooled, names: Sequence[str], metrics: Sequence[str]) -> dict[str, dict[str, Row]]:
    """contender -> metric -> mean, low, high."""
    return {name: {metric: found.value(name, metric) for metric in metrics} for name in names}


def _data(log: EventLog) -> Row:
    first, last = log.span
    source, counts = log.manifest.source, log.manifest.counts
    return {
        "name": log.path.name,
        "source": source,
        "content_hash": log.content_hash,
        "events": counts["events"],
        "articles": counts["articles"],
        "customers": counts["customers"],
        "first": first.isoformat(),
        "last": last.isoformat(),
    }


def _plan(plan: BacktestPlan) -> Row:
    return {
        "start": plan.start.isoformat(),
        "end": plan.end.isoformat(),
        "step": duration(plan.step),
        "steps": steps_in_words(plan),
        "retrain": duration(plan.retrain),
        "rebuild": duration(plan.rebuild),
        "label_delay": duration(plan.label_delay),
        "k": plan.k,
        "everyone": plan.everyone,
        "through": plan.through,
        "seed": plan.seed,
    }


def _contenders(plan: BacktestPlan, notes: Sequence[StepNote]) -> list[Row]:
    """With the bundles that answered for each, in order."""
    return [
        {
            "name": contender.name,
            "strategy": contender.strategy,
            "bundles": list(dict.fromkeys(note.bundle_ids[contender.name] for note in notes)),
        }
        for contender in plan.contenders
    ]


def _cost(notes: Sequence[StepNote], ms: dict[str, Floats]) -> Row:
    """seconds: of each phase, all steps together · ms: of one answer, for the contenders where it was measured."""
    phases = list(dict.fromkeys(phase for note in notes for phase in note.seconds))
    seconds = {phase: round(sum(note.seconds.get(phase, 0.0) for note in notes), 2) for phase in phases}
    return {
        "seconds": seconds | {"total": round(sum(seconds.values()), 2)},
        "ms": {
            name: {"p50": round(float(np.percentile(values, 50)), 3), "p99": round(float(np.percentile(values, 99)), 3)}
            for name, values in ms.items()
            if len(values)
        },
        "answers": sum(note.customers for note in notes) * len(ms),
        "events": sum(note.events for note in notes),
        "peak_mb": max(note.peak_mb for note in notes),
    }
