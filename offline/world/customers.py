"""The customers of the synthetic world: tastes that nobody sees, and rhythms of visiting and buying again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from offline.world.settings import WorldSize, generator
from offline.world.vocabulary import BANDS, COLOURS, DEPARTMENTS, GARMENTS, STYLES

_Numbers = npt.NDArray[np.float32]

# Visits are an Erlang renewal process of this shape: steadier than chance, whose shape would be 1.
ERLANG_SHAPE = 3
_LATE = 0.4  # share of customers who come for the first time somewhen during the world


@dataclass(frozen=True)
class Customers:
    """n customers, one row each.

    The five taste arrays hold positive factors float32[n, values] on departments, garments, styles, price bands and
    colours. `visit_days` is the mean time between buying visits, `again_days` the time after which something is
    bought again, `again_share` the chance that a piece is a repeat where one is due, `extra_pieces` the mean number
    of pieces of a visit beyond the first, `online` the chance of sales channel 2.
    """

    department: _Numbers
    garment: _Numbers
    style: _Numbers
    band: _Numbers
    colour: _Numbers
    visit_days: _Numbers
    again_days: _Numbers
    again_share: _Numbers
    extra_pieces: _Numbers
    online: _Numbers
    age: npt.NDArray[np.int16]
    first_visit: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.age)

    @property
    def tastes(self) -> tuple[_Numbers, ...]:
        """In the order in which an article is chosen."""
        return self.department, self.garment, self.style, self.band, self.colour


def make_customers(size: WorldSize) -> Customers:
    """The customers of a world; equal for equal sizes and seeds."""
    rng = generator(size.seed, "customers")
    n = size.customers
    main = rng.choice(len(DEPARTMENTS), n, p=[d.share for d in DEPARTMENTS])
    age = np.clip(np.where(rng.random(n) < 0.6, rng.normal(26, 6, n), rng.normal(48, 10, n)), 16, 85)
    department = np.exp(rng.normal(-3.0, 0.8, (n, len(DEPARTMENTS))))
    department[np.arange(n), main] = 1.0
    style_ages = np.array([style.age for style in STYLES])
    style = np.exp(rng.normal(0, 1.3, (n, len(STYLES))) - 0.5 * ((age[:, None] - style_ages) / 14) ** 2)
    purse = rng.normal(0.9, 0.8, (n, 1))
    band = np.exp(-1.2 * (np.arange(len(BANDS)) - purse) ** 2)
    visit_days = np.clip(rng.lognormal(np.log(30), 0.6, n), 4, 200)
    again_days = np.clip(visit_days * rng.uniform(1.0, 2.0, n), 10, 250)
    late = rng.random(n) < _LATE
    first = np.where(late, rng.random(n) * size.days, rng.random(n) * visit_days)
    return Customers(
        department=department.astype(np.float32),
        garment=np.exp(rng.normal(0, 1.1, (n, len(GARMENTS)))).astype(np.float32),
        style=style.astype(np.float32),
        band=band.astype(np.float32),
        colour=np.exp(rng.normal(0, 1.2, (n, len(COLOURS)))).astype(np.float32),
        visit_days=visit_days.astype(np.float32),
        again_days=again_days.astype(np.float32),
        again_share=rng.beta(1.5, 4.0, n).astype(np.float32),
        extra_pieces=rng.gamma(1.5, 0.6, n).astype(np.float32),
        online=rng.beta(2.0, 1.2, n).astype(np.float32),
        age=age.astype(np.int16),
        first_visit=first.astype(np.int32),
    )


def next_visits(customers: Customers, who: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Days until the next buying visit of each of `who`, at least 1: int32[m]."""
    means = np.maximum(customers.visit_days[who] - 0.5, 1.0)
    return np.asarray(1 + rng.gamma(ERLANG_SHAPE, means / ERLANG_SHAPE).astype(np.int32), np.int32)


def visit_chances(means: npt.NDArray[np.float32], gaps: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Probability that the day is `gaps` days after the last visit: float64 as broadcast, from the Erlang law."""
    rate = ERLANG_SHAPE / np.maximum(means - 0.5, 1.0)
    return np.asarray(_erlang(rate * np.maximum(gaps, 0)) - _erlang(rate * np.maximum(gaps - 1, 0)), np.float64)


def _erlang(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1 - np.exp(-x) * (1 + x + x * x / 2), np.float64)


def customer_ids(numbers: npt.ArrayLike) -> pa.Array:
    """`c0000042` for customer 42."""
    return pa.array([f"c{number:07d}" for number in np.asarray(numbers).tolist()], pa.string())


def customer_table(customers: Customers, seed: int, first: int, last: int) -> pa.Table:
    """Customers first..last-1 with the columns of H&M's `customers.csv`; what they like is not in it."""
    rng = generator(seed, "profiles", first)
    n = last - first
    member, news = rng.random(n) < 0.8, rng.random(n) < 0.4
    age = customers.age[first:last]
    return pa.table(
        {
            "customer_id": customer_ids(np.arange(first, last)),
            "FN": pa.array(np.where(news, 1.0, np.nan), from_pandas=True),
            "Active": pa.array(np.where(news, 1.0, np.nan), from_pandas=True),
            "club_member_status": pa.array(np.where(member, "ACTIVE", "PRE-CREATE")),
            "fashion_news_frequency": pa.array(np.where(news, "Regularly", "NONE")),
            "age": pa.array(age, mask=rng.random(n) < 0.02),
            "postal_code": pa.array([f"p{number:04d}" for number in rng.integers(0, 2_000, n).tolist()]),
        }
    )
