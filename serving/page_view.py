"""What the shop page shows of answers and customers: plain values, ready for a template."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from serving.messages import Item, Recommendations
from serving.wording import tidy

TONES = 10
SPANS = ((365 * 86_400, "year"), (30 * 86_400, "month"), (86_400, "day"), (3_600, "hour"), (60, "minute"))

# Where an article was found, in the drawer: a name, and how the source looks. Not why it is shown: that the answer's
# own reason alone may say, and where it says nothing, a source must not say it instead.
SOURCES: Mapping[str, tuple[str, str]] = {
    "repurchase": ("Your articles", "Found among what you bought or looked at."),
    "variants": ("Other versions", "Found among other versions of what you bought or looked at."),
    "covisitation": ("Goes together", "Found in the lists of what is chosen together."),
    "popular": ("Bestsellers", "Found in the list of what sells."),
    "catalogue": ("The catalogue", "Found in the rest of the catalogue, since the lists before it were used up."),
    "collab": ("Shared baskets", "Found by a model of what is bought by the same customers."),
    "two_tower": ("Your taste", "Found near your acts by a model that has read many histories."),
    "content": ("Your style", "Found by words and pictures, near those of what you chose."),
    "hybrid": ("A blend", "Found by words and pictures, shared baskets and taste together."),
    "text": ("Your search", "Found by your words or by what they mean."),
    "image": ("Your photo", "Found by its likeness to your photo."),
    "pin": ("The shop's choice", "Put at the top, whatever the scores say."),
}
NO_WORDS = {"unknown", "undefined", "none"}  # what catalogues write where they do not know
CHOSEN = "Chosen for you"  # where nothing true can be said of why
FOUND = "Why it fits"  # of a search, which has been told what is wanted
STRATEGY_NAMES: Mapping[str, str] = {
    "full": "Everything, ranked",
    "hybrid": "Blend, no ranker",
    "repurchase": "Bought or seen before",
    "variants": "Other versions",
    "covisitation": "Goes with yours",
    "popular": "Bestsellers",
    "collab": "Shared baskets",
    "two_tower": "Your taste",
    "content": "Your style",
}

# Why an answer is less than it should be, by the word that it says in `degraded`.
NOTES: Mapping[str, str] = {
    "store_unavailable": "Made without your history, which cannot be reached just now: this is what sells.",
    "state_unreadable": "Made without your history, which cannot be read: this is what sells.",
    "ranker_failed": "The ranker failed just now. What was found is in the order in which it was found.",
    "bought_unknown": "What you bought is not known in full just now, so something that you have may be among these.",
    "words_only": "Found by the words alone: this shop's models do not read what they mean.",
    "llm_off": "No language model is set up here. The order is the ranker's own.",
    "llm_budget": "The list is too long for the language model. The order is the ranker's own.",
    "llm_invalid": "What the language model said was no order of this list. The order is the ranker's own.",
    "llm_late": "The language model took too long. The order is the ranker's own.",
    "llm_busy": "The language model has too much to do just now. The order is the ranker's own.",
    "llm_failed": "The language model did not answer. The order is the ranker's own.",
    "llm_paused": "The language model failed too often and has a pause. The order is the ranker's own.",
}
Entry = Mapping[str, str | int | float]
Described = Mapping[str, str | float | None]


@dataclass(frozen=True, slots=True)
class Article:
    """An article as a card shows it. tone: one of TONES quiet colours, by department and category · initial: the first
    letter of the title."""

    article_id: str
    title: str
    category: str
    department: str
    price: float | None
    picture: bool
    tone: int
    initial: str

    @property
    def where(self) -> str:
        """Category and department, without saying one word twice."""
        parts = [part for part in (self.category, self.department) if part]
        if len(parts) == 2 and parts[0].casefold() == parts[1].casefold():
            parts.pop()
        return " · ".join(parts)


@dataclass(frozen=True, slots=True)
class Card:
    """One place of a list. share: the score beside the best one's, 0 to 1 · sources: best first · reason: the sentence
    of the answer, None where it gives none · places: where the sources that found it had it, from 1 · gates: the share
    of each of the ranker's experts in the score, where the trace tells."""

    article: Article
    rank: int
    score: float
    share: float
    sources: tuple[str, ...]
    reason: str | None
    places: Mapping[str, int] = field(default_factory=dict)
    gates: tuple[float, ...] = ()

    @property
    def short(self) -> str:
        """Why, on the card itself."""
        return self.reason or (FOUND if {"text", "image"} & set(self.sources) else CHOSEN)

    @property
    def explained(self) -> list[tuple[str, str, int | None]]:
        """Name and sentence of each source that found it, and its place there."""
        told = []
        for source in self.sources:
            name, sentence = SOURCES.get(source, (source.replace("_", " "), ""))
            told.append((name, sentence, self.places.get(source)))
        return told


def notes(degraded: Sequence[str]) -> list[str]:
    """What is said in `degraded`, each once and in a sentence."""
    return [NOTES.get(why, f"Less than it should be: {why.replace('_', ' ')}.") for why in dict.fromkeys(degraded)]


def ago(moment: datetime, now: datetime) -> str:
    """How long before `now`, in the largest whole unit: "3 days ago"."""
    seconds = (now - moment).total_seconds()
    for size, unit in SPANS:
        count = int(seconds // size)
        if count >= 1:
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def breakable(title: str) -> str:
    """A title that may go on in the next line after a slash, and need not break in the middle of a word."""
    return title.replace("/", "/\u200b")


def named(customer_id: str) -> str:
    """An id as a name: one of 64 hex digits is known by its ends."""
    return customer_id if len(customer_id) <= 18 else f"{customer_id[:6]}…{customer_id[-4:]}"


def monogram(customer_id: str) -> str:
    """What stands for a customer in a circle: the letter that the id begins with. A number would read as an age, and of
    a long id nobody knows the first sign; those have none."""
    return customer_id[0].upper() if len(customer_id) <= 18 and customer_id[:1].isalpha() else ""


def article_of(described: Described, has_picture: Callable[[str], bool]) -> Article:
    article_id = str(described["article_id"])
    title = tidy(str(described["title"] or f"Article {article_id}"))
    category, department = kind_of(described), tidy(str(described["department"] or ""))
    price = described["price"]
    return Article(
        article_id=article_id,
        title=title,
        category=category,
        department=department,
        price=float(price) if price is not None else None,
        picture=has_picture(article_id),
        tone=zlib.crc32(f"{department}/{category}".encode()) % TONES,
        initial=next((sign for sign in title if sign.isalnum()), "·").upper(),
    )


def kind_of(described: Described) -> str:
    """The nearest word for what it is that its title does not say already: subcategory, else category, else nothing."""
    title = str(described["title"] or "").casefold()
    for name in ("subcategory", "category"):
        word = str(described.get(name) or "")
        if word and word.casefold() not in NO_WORDS and not title.startswith(word.casefold()):
            return tidy(word)
    return ""


def cards(items: Sequence[Item], describe: Callable[[str], Article], trace: Sequence[Entry] = ()) -> list[Card]:
    """The places of a list, in order; `trace` of its answer may tell more of each."""
    top = max((item.score for item in items), default=0.0)
    told = {str(entry.get("article_id")): entry for entry in trace if entry.get("stage") == "item"}
    return [
        Card(
            article=describe(item.article_id),
            rank=item.rank,
            score=item.score,
            share=min(1.0, max(0.0, item.score / top)) if top > 0 else 0.0,
            sources=tuple(filter(None, item.source.split("+"))),
            reason=item.reason,
            places=_places(told.get(item.article_id, {})),
            gates=_gates(told.get(item.article_id, {})),
        )
        for item in items
    ]


def one_a_title(shown: Sequence[Card]) -> list[Card]:
    """Without those that look like one before them, of the same title and with no picture to tell them apart; what is
    left is numbered anew."""
    seen = set()
    kept: list[Card] = []
    for card in shown:
        title = card.article.title.casefold()
        if card.article.picture or title not in seen:
            kept.append(replace(card, rank=len(kept) + 1))
        seen.add(title)
    return kept


def _places(entry: Entry) -> dict[str, int]:
    found = ((key, value) for key, value in entry.items() if key.startswith("rank.") and isinstance(value, int))
    return {key.removeprefix("rank."): value + 1 for key, value in found}


def _gates(entry: Entry) -> tuple[float, ...]:
    return tuple(float(value) for key, value in entry.items() if key.startswith("gate."))


def favourites(rows: Sequence[Described], at_most: int = 3) -> list[str]:
    """The kinds of articles acted on most often, in the order of how often; of equals the one met first."""
    counted = Counter(kind for row in rows if (kind := kind_of(row)))
    return [name for name, _ in counted.most_common(at_most)]


def stages(answer: Recommendations) -> list[tuple[str, str]]:
    """The trace in words: name of the stage, and what it did. What is said of single articles stands with them."""
    told = []
    for entry in answer.trace:
        if entry.get("stage") in ("item", "drop"):
            continue
        facts = [
            _fact(name.replace("dropped.", "dropped as ").replace("_", " "), value)
            for name, value in entry.items()
            # What the filters dropped is told by rule.
            if name != "stage" and not (name == "dropped" and any(other.startswith("dropped.") for other in entry))
        ]
        told.append((str(entry.get("stage", "")).replace("_", " "), ", ".join(facts)))
    return told


def _fact(name: str, value: str | int | float) -> str:
    """`216 kept`, `by mmoe`."""
    if isinstance(value, str):
        return f"{name} {value}"
    return f"{value:.3g} {name}" if isinstance(value, float) else f"{value:,} {name}"
