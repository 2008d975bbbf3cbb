"""Section `rules`: what no answer may break. What the names in it stand for, serving/rules.py checks."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from infra.settings_section import Section

Word = Annotated[str, Field(min_length=1)]
Words = Annotated[list[Word], Field(min_length=1, max_length=1_000)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Most = Annotated[int, Field(ge=1)]


class Matching(Section):
    """What has one of `values` as its `field`."""

    field: Word
    values: Words


class MinimumAge(Matching):
    years: Annotated[int, Field(ge=1, le=150)]


class Boosted(Matching):
    factor: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]


class RulesSettings(Section):
    """Limits, caps, boosts and pins of every answer; requests can only tighten them."""

    exclude_bought: bool = False
    min_price: Amount | None = None
    max_price: Amount | None = None
    max_per_brand: Most | None = None
    max_per_product: Most | None = None
    only: dict[Word, Words] = Field(default_factory=dict)
    blocked: dict[Word, Words] = Field(default_factory=dict)
    minimum_age: list[MinimumAge] = Field(default_factory=list, max_length=100)
    boosts: list[Boosted] = Field(default_factory=list, max_length=32)
    pins: list[Word] = Field(default_factory=list, max_length=200)

    @model_validator(mode="after")
    def _some_price_is_left(self) -> Self:
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError(
                f"min_price {self.min_price:g} is above max_price {self.max_price:g}; nothing could be shown"
            )
        return self
