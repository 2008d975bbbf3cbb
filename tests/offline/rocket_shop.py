"""RetailRocket's files for a small shop whose articles become known one after another.

Sixteen visitors over eight weeks; each looks at, and every week buys, the staple of its camp (items 1 and 2) and one
other item of the camp by a die. Items 1 to 10 are described from the start, 11 and 12 only from week 4 on, though they
may be met from week 2 on; item 13 is met first in the last week before the cut and never described.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2015, 5, 4, tzinfo=UTC)
WEEKS = 8
CUT = START + timedelta(weeks=WEEKS - 1)
VISITORS = 16
TREE = "categoryid,parentid\n1,\n10,1\n100,10\n101,10\n"
_FILES = {
    "events": "timestamp,visitorid,event,itemid,transactionid",
    "item_properties_part1": "timestamp,itemid,property,value",
    "item_properties_part2": "timestamp,itemid,property,value",
}


def week(number: float) -> datetime:
    return START + timedelta(weeks=number)


def millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)


def event(moment: datetime, visitor: int, kind: str, item: int) -> str:
    return f"{millis(moment)},{visitor},{kind},{item},{1 if kind == 'transaction' else ''}"


def told(moment: datetime, item: int, name: str, value: str) -> str:
    return f"{millis(moment)},{item},{name},{value}"


def write_rocket_shop(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "category_tree.csv").write_text(TREE)
    for name, header in _FILES.items():
        (directory / f"{name}.csv").write_text(header + "\n")
    dice = random.Random(5)
    events = []
    for number in range(WEEKS):
        for visitor in range(VISITORS):
            camp = visitor % 2
            others = [item for item in range(3, 13) if item % 2 == camp and (item < 11 or number >= 2)]
            if number == WEEKS - 2:
                others = [13]
            moment = week(number) + timedelta(days=visitor % 7, hours=visitor)
            for item in (1 + camp, dice.choice(others)):
                events.append(event(moment, visitor, "view", item))
                events.append(event(moment + timedelta(minutes=5), visitor, "transaction", item))
    add(directory, "events", *events)
    for item in range(1, 13):
        first = week(4) if item > 10 else START - timedelta(days=1)
        lines = [
            told(first, item, "categoryid", str(100 + item % 2)),
            told(first, item, "5", f"word{item} camp{item % 2}"),
        ]
        add(directory, f"item_properties_part{1 + item % 2}", *lines)
    return directory


def add(directory: Path, name: str, *lines: str) -> None:
    """Append lines to one of the files."""
    with (directory / f"{name}.csv").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
