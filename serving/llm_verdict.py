"""What a language model answered, believed only as far as it can be checked: an order of the numbers that it was
given, each exactly once, and sentences that a shop may show.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
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
_JOINT = re.compile("[-'’]")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
# With what such a sentence may begin; any other word there that has a capital may be a name.
_OPENERS = frozenset(
    _WORD.findall(
        "a after also always an and another as at because before both bring brings combine combines comes "
        "complete completes customers each easy either enjoy every everyday for fresh from give gives go goes "
        "good great handy here i ideal if in it it's its just keep keeps like look looks lovely made makes "
        "many match matches maybe more most much my new next nice no not often on once one our pair pairs "
        "people perfect picked popular ready right same seen shoppers similar simple since so some soon still "
        "suits that that's the their then there these they this those time to together try useful wear what "
        "when where while why with works worn you you'll you're you've your yours"
    )
)
# Of offers, prices and stock, of which a model knows nothing but what it was told.
_OFFERS = frozenset(
    _WORD.findall(
        "bargain bargains cent cents cheap cheaper cheapest clearance coupon coupons deal deals deliver "
        "delivered delivery deposit discount discounted discounts dollar dollars euro euros expensive free "
        "gift gifts guarantee guaranteed half lowest markdown offer offers off outlet pence penny percent "
        "percentage pound pounds price priced prices promo promotion quid rebate reduced reduction refund "
        "refundable refunds sale sales save saved saves saving savings shipped shipping stock stocked stocks "
        "voucher vouchers warranty zero two three four five six seven eight nine ten eleven twelve thirteen "
        "fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty "
        "ninety hundred hundreds thousand thousands million double twice triple dozen"
    )
)


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
    quotations, and with no number, no word of an offer and no name (a word with a capital, unless it opens the sentence
    as many do) that does not stand in `facts`: what was not asked about cannot be praised or priced.
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
    words, given = _WORD.findall(text), set(_WORD.findall(facts))
    names = {word.casefold() for n, word in enumerate(words) if _is_name(word, first=n == 0)}
    offers = _OFFERS & _parts(word.casefold() for word in words)
    known = names <= given and offers <= _parts(given) and set(_NUMBER.findall(text)) <= set(_NUMBER.findall(facts))
    return known and len(words) > 1


def _is_name(word: str, *, first: bool) -> bool:
    opens = first and word.replace("’", "'").casefold() in _OPENERS and not word[1:].isupper()
    return any(sign.isupper() for sign in word) and not opens


def _parts(words: Iterable[str]) -> set[str]:
    """Words, and those of which they are put together."""
    return {part for word in words for part in (word, *_JOINT.split(word))}
