"""What was bought in a step: who is asked, which is all that is read of it before the answers are sealed, and what
they are judged by."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import GateError
from offline.backtest.ledger import Ledger
from offline.backtest.plan import Step
from offline.event_log import EventLog

# occurred_at: of the first purchase of the article in the step · quantity: pieces · spend: null where no price was
# given · category: of the article as it was known at the end of the step · channel: of the first purchase.
PURCHASES = pa.schema(
    [
        ("customer_id", pa.string()),
        ("article_id", pa.string()),
        ("occurred_at", pa.timestamp("us", tz="UTC")),
        ("quantity", pa.int64()),
        ("spend", pa.float64()),
        ("category", pa.string()),
        ("channel", pa.int8()),
    ]
)


@dataclass(frozen=True, eq=False)
class Truth:
    """purchases: PURCHASES, one row a distinct (customer, article), by customer_id and article_id."""

    purchases: pa.Table

    @property
    def customers(self) -> list[str]:
        """Who bought something, by id."""
        return list(dict.fromkeys(self.purchases["customer_id"].to_pylist()))

    def bought(self) -> dict[str, dict[str, float]]:
        """customer_id -> article_id -> amount paid, 0 where it is unknown."""
        found: dict[str, dict[str, float]] = {}
        columns = (self.purchases[name].to_pylist() for name in ("customer_id", "article_id", "spend"))
        for customer, article, spend in zip(*columns, strict=True):
            found.setdefault(customer, {})[article] = spend or 0.0
        return found


def buyers(log: EventLog, step: Step) -> list[str]:
    """Ids of those who buy in the step, sorted. That they come is all that this tells: it chooses who is asked, and
    nothing of it reaches an answer."""
    found: set[str] = set()
    for batch in log.scan(step.cut, step.until):
        bought = pc.equal(batch.column("type"), "purchase")
        found.update(pc.unique(batch.column("customer_id").filter(bought)).to_pylist())
    return sorted(found)


def truth(ledger: Ledger, log: EventLog, step: Step) -> Truth:
    """What was bought in the step.

    Raises:
        GateError: the step's predictions are not sealed yet.
    """
    if not ledger.is_sealed(step.number):
        raise GateError(
            f"step {step.number} ({step.cut.isoformat()}) has no sealed predictions; answers come first, labels after"
        )
    events = log.read(step.cut, step.until)
    events = events.filter(pc.equal(events["type"], "purchase"))
    lines = events.group_by(["customer_id", "article_id"], use_threads=False).aggregate(
        [("occurred_at", "first"), ("quantity", "sum"), ("price", "sum"), ("sales_channel_id", "first")]
    )
    articles = log.articles(step.until).select(["article_id", "category"])
    lines = lines.join(articles, "article_id", join_type="left outer", use_threads=False)
    lines = lines.sort_by([("customer_id", "ascending"), ("article_id", "ascending")])
    named = {"occurred_at": "occurred_at_first", "quantity": "quantity_sum", "spend": "price_sum"}
    named["channel"] = "sales_channel_id_first"
    columns = [lines[named.get(field.name, field.name)].cast(field.type) for field in PURCHASES]
    return Truth(pa.table(columns, schema=PURCHASES))
