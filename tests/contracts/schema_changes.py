"""What a change of a message's schema breaks: all but another optional field, or another type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ADVICE = (
    "Messages of this form are kept on topics, in archives and in other people's code. Put it back as it was and add "
    "an optional field beside it; what cannot be added needs the next major: raise the type's version, keep reading "
    "version 1 (streams/versions.py) and save messages of both in tests/contracts/messages."
)


def breaking(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line a change in the schemas of `saved` (by type) that readers or writers of old messages would notice."""
    found: list[str] = []
    for name, before in saved.items():
        if name not in now:
            found.append(f"{name} is gone")
            continue
        found += _changes(name, before, now[name])
    return found


def _changes(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = before.get("properties", {}), after.get("properties", {})
    found = [f"{name}.{field} is gone, or has another name" for field in old if field not in new]
    found += [
        f"{name}.{field} was {_said(old[field])}, is {_said(new[field])}"
        for field in old
        if field in new and _said(old[field]) != _said(new[field])
    ]
    must, may = set(after.get("required", ())), set(before.get("required", ()))
    found += [f"{name}.{field} is required now; old messages lack it" for field in sorted(must - may)]
    found += [
        f"{name}.{field} is not required any more; old readers ask for it" for field in sorted(may & set(new) - must)
    ]
    own = ("properties", "required", "description", "title")
    for rule in sorted({*before, *after} - set(own)):
        if before.get(rule) != after.get(rule):
            found.append(f"{name}: {rule} was {before.get(rule)!r}, is {after.get(rule)!r}")
    return found


def _said(schema: Mapping[str, Any]) -> str:
    return repr({key: schema[key] for key in sorted(schema) if key != "description"})
