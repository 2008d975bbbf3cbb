"""Named checks over a source's files: PASS or FAIL, counts and example rows. All of them run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import DataError
from offline.sources.base import CHECKS, CollectAll, Example, Source
from offline.sources.registry import open_source


@dataclass(frozen=True)
class Check:
    """One check's verdict. `failed` counts broken rows (or files); `examples` holds up to five of them."""

    name: str
    description: str
    failed: int
    examples: tuple[Example, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.failed


@dataclass(frozen=True)
class Validation:
    """All checks over one subject. `counts` are good rows by table, `notes` what was left out on purpose."""

    subject: str
    checks: tuple[Check, ...]
    counts: dict[str, int]
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "subject": self.subject,
            "passed": self.passed,
            "checks": [{**asdict(check), "passed": check.passed} for check in self.checks],
            "counts": self.counts,
            "notes": self.notes,
        }


def validate_data(name: str, path: Path | None) -> Validation:
    """Check the files of a source without importing them.

    Raises:
        ConfigurationError: unknown source, or no directory to read from.
    """
    return validate_source(open_source(name, path))


def validate_source(source: Source) -> Validation:
    """`validate_data` for an opened source. Each table is read as far as it can be."""
    findings = CollectAll()
    counts: Counter[str] = Counter()
    known: list[pa.Array] = []

    def read(table: str, batches: Callable[[], Iterator[pa.RecordBatch]]) -> bool:
        counts[table] = 0
        try:
            for batch in batches():
                rows = batch.num_rows
                if table == "articles":
                    known.append(pc.unique(batch.column("article_id")))
                    rows = len(known[-1])  # an article whose facts changed is one
                counts[table] += rows
        except DataError as error:
            findings.add_error("columns", error)
            return False
        return True

    readable = read("articles", lambda: source.articles(findings))
    read("customers", lambda: source.customers(findings))
    ids = pa.chunked_array(known, pa.string()).combine_chunks() if readable else None
    read("events", lambda: source.events(findings, ids))
    if ids is None:
        findings.add_error("known_articles", DataError("not checked: the article table cannot be read"))
    if not counts["events"] and not findings.failed:
        findings.add_error("columns", DataError("no events", file=source.files[-1].name))
    return Validation(source.name, verdicts(CHECKS, findings), dict(counts), dict(findings.notes))


def verdicts(checks: dict[str, str], findings: CollectAll) -> tuple[Check, ...]:
    """One verdict for each of `checks` (name -> description)."""
    return tuple(
        Check(name, description, findings.failed[name], tuple(findings.examples.get(name, ())))
        for name, description in checks.items()
    )
