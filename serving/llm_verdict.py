"""What a language model answered, believed only as far as it can be checked: an order of the numbers that it was
given, each exactly once, and sentences that a shop may show.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import msgspec

from serving.llm_prompt import Question

REASON_MIN_CHARS = 8
REASON_MAX_CHARS = 140

# Markup, templates, addresses, entities; nothing of it belongs into a sentence.
_MARKS = re.compile(r"[{}\[\]\\*_#@%]|&\w+;|:/|www\.", re.IGNORECASE)
# A dot inside a word (a domain, a file), or a second sentence.
_DOTTED = re.compile(r"\w[.\u2024\u3002\uff0e\uff61][^\W\d]|[.!?]\s")
_QUOTED = re.compile('["“”„‟«»]')
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")


class BadVerdict(ValueError):
    """The answer cannot be used; says why in words of our own, for its text is anybody's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """order: positions (from 0) of what was asked about, best first. reasons: by position, None where none can be
    shown."""

    order: tuple[int, ...]
    reasons: tuple[str | None, ...]


class _Entry(msgspec.Struct):
    n: int
    why: str = ""


class _Answer(msgspec.Struct):
    items: list[_Entry]


_decoder = msgspec.json.Decoder(_Answer)


def read_verdict(content: str, question: Question) -> Verdict:
    """The order and the reasons that can be shown.

    Raises:
        BadVerdict: not the JSON that was asked for, or not every number exactly once.
    """
    try:
        entries = _decoder.decode(content).items
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadVerdict(f"not the JSON that was asked for ({type(error).__name__})") from None
    numbers = [entry.n for entry in entries]
    if sorted(numbers) != list(range(1, question.count + 1)):
        raise BadVerdict(
            f"{len(numbers)} numbers, {len(set(numbers))} different, that are not each of 1 to {question.count} once"
        )
    reasons = {entry.n: showable(entry.why, question.facts) for entry in entries}
    return Verdict(tuple(n - 1 for n in numbers), tuple(reasons[n] for n in range(1, question.count + 1)))


def showable(text: str, facts: str) -> str | None:
    """The sentence as it may be shown, or None.

    One sentence of letters, digits and marks (no symbols, no stacked accents), without markup, addresses or
    quotations, and with no number and no name (a word with a capital after the first) that does not stand in `facts`:
    what was not asked about cannot be praised or priced.
    """
    if len(text) > 4 * REASON_MAX_CHARS:
        return None
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    return text if _is_plain_sentence(text) and _says_only(facts, text) else None


def _is_plain_sentence(text: str) -> bool:
    return (
        REASON_MIN_CHARS <= len(text) <= REASON_MAX_CHARS
        and not any(unicodedata.category(sign)[0] in "CMS" for sign in text)
        and not any(pattern.search(text) for pattern in (_MARKS, _DOTTED, _QUOTED))
    )


def _says_only(facts: str, text: str) -> bool:
    words = _WORD.findall(text)
    names = {word.casefold() for word in words[1:] if any(sign.isupper() for sign in word)}
    known = names <= set(_WORD.findall(facts)) and set(_NUMBER.findall(text)) <= set(_NUMBER.findall(facts))
    return known and len(words) > 1
