"""The table and the JSON object of a run."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from statistics import median
from typing import Any

from tests.chaos.faults import NEEDS_DISK
from tests.chaos.oracle import KINDS, Finding
from tests.chaos.run import REACHES_BACK_MS, Outcome

SHOWN = 20
IN_TRAFFIC = ("duplicates", "jumps", "poison", "poison requests")
# What was done and not committed is done again: allowed, the same where the state is the same, and reported.
AFTER_CRASHES = ("repeated answers", "repeated letters")
UNDATED = "at no known time"
NONE_YET = "before the first fault"


def by_fault(outcome: Outcome) -> dict[str, Counter[str]]:
    """Findings by the fault on whose watch their message was produced; an attribution, not a proof."""
    starts = sorted((done.began_ms - REACHES_BACK_MS, done.name) for done in outcome.done)
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for finding in outcome.verdict.findings:
        found[_whose(finding, starts)][finding.kind] += 1
    return dict(found)


def _whose(finding: Finding, starts: list[tuple[int, str]]) -> str:
    if finding.at_ms is None:
        return UNDATED
    place = bisect_right(starts, (finding.at_ms, "\uffff")) - 1
    return starts[place][1] if place >= 0 else NONE_YET


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    """One row a fault, then what belongs to none, what the traffic brings with it, what came again, and all.

    lasted_s: until its cause was over. recovery_s: from then until every partition was folded and answered again; both
    the median, longest_s the longest recovery.
    """
    found = by_fault(outcome)
    done = defaultdict(list)
    for one in outcome.done:
        done[one.name].append(one)
    table = []
    for name in [*done, *(name for name in found if name not in done)]:
        seconds = [one.recovery_s for one in done.get(name, []) if one.recovery_s is not None]
        table.append(
            {
                "fault": name,
                "times": len(done.get(name, [])),
                "lasted_s": round(median(one.lasted_s for one in done[name]), 1) if name in done else None,
                "recovery_s": round(median(seconds), 1) if seconds else None,
                "longest_s": round(max(seconds), 1) if seconds else None,
                **{kind: found.get(name, Counter())[kind] for kind in KINDS},
            }
        )
    table += [{"fault": name, "times": outcome.sent.get(name, 0)} for name in IN_TRAFFIC]
    counts = outcome.verdict.counts
    table.append({"fault": "out of order", "times": counts["out of order"]})
    table += [{"fault": name, "times": counts[name]} for name in AFTER_CRASHES]
    total = {kind: outcome.verdict.count(kind) for kind in KINDS}
    return [*table, {"fault": "all", "times": len(outcome.done), **total}]


def as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "ok": outcome.ok,
        "seed": outcome.plan.seed,
        "kafka": outcome.plan.kafka,
        "faults": rows(outcome),
        "counts": dict(sorted(outcome.verdict.counts.items())),
        "sent": outcome.sent,
        "troubles": outcome.troubles,
        "findings": [f"{finding.kind}: {finding.what}" for finding in outcome.verdict.findings[:SHOWN]],
    }


def as_text(outcome: Outcome) -> str:
    columns = ("fault", "times", "lasted_s", "recovery_s", "longest_s", *KINDS)
    lines = [["-" if row.get(name) is None else str(row[name]) for name in columns] for row in rows(outcome)]
    widths = [max(len(line[i]) for line in [list(columns), *lines]) for i in range(len(columns))]
    text = [_line(list(columns), widths), *(_line(line, widths) for line in lines), ""]
    text += [f"{name}: {count}" for name, count in sorted(outcome.verdict.counts.items())]
    if outcome.plan.kafka == "tansu":
        text += [f"not done on the embedded broker, which keeps its log in memory: {', '.join(NEEDS_DISK)}"]
    text += [f"TROUBLE {trouble}" for trouble in outcome.troubles]
    findings = outcome.verdict.findings
    text += [f"{finding.kind.upper()} {finding.what}" for finding in findings[:SHOWN]]
    if len(findings) > SHOWN:
        text.append(f"and {len(findings) - SHOWN} more")
    text.append(f"seed {outcome.plan.seed} on {outcome.plan.kafka}: {'as it ought to be' if outcome.ok else 'NOT OK'}")
    return "\n".join(text)


def _line(cells: list[str], widths: list[int]) -> str:
    right = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join([cells[0].ljust(widths[0]), *right[1:]])
