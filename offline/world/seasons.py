"""Seasons of a northern city: how strongly garments and colours are in demand on each day."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offline.world.settings import FIRST_DAY
from offline.world.vocabulary import COLOURS, GARMENTS

_GARMENTS = 1.3
_COLOURS = 0.6
_COLDEST = 20  # day of the year
_FIRST = FIRST_DAY.timetuple().tm_yday - 1


def coldness(days: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """+1 in the coldest week of the year, -1 in the warmest; `days` count from the world's first."""
    return np.asarray(np.cos(2 * np.pi * (np.asarray(days, np.float64) + _FIRST - _COLDEST) / 365.25), np.float64)


def garment_seasons(days: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """float64[d, garments]: factor on the demand, 1 on average over the logarithms of a year."""
    warmth = np.array([garment.warmth for garment in GARMENTS])
    return np.asarray(np.exp(_GARMENTS * np.multiply.outer(coldness(days), warmth)), np.float64)


def colour_seasons(days: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """float64[d, colours], as `garment_seasons`."""
    warmth = np.array([colour.warmth for colour in COLOURS])
    return np.asarray(np.exp(_COLOURS * np.multiply.outer(coldness(days), warmth)), np.float64)
