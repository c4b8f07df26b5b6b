"""Trends of a few points by ranks: Kendall's test and Theil and Sen's line. Pure.

The numbers are those of `scipy.stats.kendalltau` and `theilslopes`, and the tests hold them against these. They are
here because `scipy.stats` takes longer to import than a thousand requests take to judge, and every report asks for a
trend.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]

EXACT = 33
"""Up to so many points without ties the p-value is counted out."""


def kendall(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """Two-sided p-value of Kendall's tau-b: whether y goes up or down with x. Neither may be the same throughout.

    Of few points without ties exact, by how many orders of n have so many inversions; else normal, with the variance
    that ties leave (Kendall, Rank Correlation Methods, 1970).
    """
    n = len(x)
    pairs = n * (n - 1) // 2
    concordance = int(np.sign(np.subtract.outer(x, x) * 1.0).ravel() @ np.sign(np.subtract.outer(y, y) * 1.0).ravel())
    concordance //= 2  # each pair stands there twice
    (x_ties, x_three, x_many), (y_ties, y_three, y_many) = _ties(x), _ties(y)
    few = min(pairs - concordance, pairs + concordance) // 2
    if x_ties == y_ties == 0 and (n <= EXACT or few <= 1):
        return min(1.0, 2 * _inversions(n, few) / math.factorial(n))
    variance = (pairs * 2 * (2 * n + 5) - x_many - y_many) / 18 + x_ties * y_ties / pairs
    if n > 2:  # of two points no three are alike
        variance += x_three * y_three / (18 * pairs * (n - 2))
    return float(2 * special.ndtr(-abs(concordance) / math.sqrt(variance)))


def theil_sen(x: FloatArray, y: FloatArray, confidence: float = 0.95) -> tuple[float, float, float]:
    """The median of all pairs' slopes, and two-sided bounds of it (Sen 1968). Not all x may be alike.

    The bounds are NaN where so many x and y are alike that nothing is left to vary.
    """
    later = np.subtract.outer(x, x) > 0
    slopes = np.sort(np.subtract.outer(y, y)[later] / np.subtract.outer(x, x)[later])
    n = len(x)
    variance = (n * (n - 1) * (2 * n + 5) - _ties(x)[2] - _ties(y)[2]) / 18
    if variance < 0:
        return float(np.median(slopes)), math.nan, math.nan
    within = float(special.ndtri((1 + confidence) / 2)) * math.sqrt(variance)
    low = max(round((len(slopes) - within) / 2) - 1, 0)
    high = min(round((len(slopes) + within) / 2), len(slopes) - 1)
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])


def _ties(values: npt.NDArray[Any]) -> tuple[int, int, int]:
    """Of t values that are alike: their pairs, t(t-1)(t-2), t(t-1)(2t+5); each summed up over all such."""
    t = np.unique(values, return_counts=True)[1].astype(np.int64)
    return int((t * (t - 1)).sum()) // 2, int((t * (t - 1) * (t - 2)).sum()), int((t * (t - 1) * (2 * t + 5)).sum())


def _inversions(n: int, most: int) -> int:
    """How many orders of n things have at most so many inversions."""
    counts = [1]
    for i in range(2, n + 1):  # the i-th thing may stand before 0 to i - 1 of the others
        sums = [sum(counts[max(0, k - i + 1) : k + 1]) for k in range(min(most + 1, len(counts) + i - 1))]
        counts = sums
    return sum(counts)
