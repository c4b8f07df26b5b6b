"""The slope of a short series whose values resemble their neighbours: Theil-Sen, with bounds that stay honest. Pure.

Strategy: the point is Theil and Sen's median of all pairs' slopes, which a few wild values do not move. Its bounds must
not take neighbours for independent: what is seen every few seconds of one process is not. So the noise is taken as
AR(1) of an unknown strength, every strength is weighed by how well it explains what departs from a line (restricted
likelihood), and the bound is the quantile of that mixture. How often such bounds are right was measured:
`python -m bench leaks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CONFIDENCE = 0.95
LEAST_POINTS = 8
"""Fewer points tell no strength of dependence, so they give no bounds."""
STRENGTHS: FloatArray = np.linspace(0.0, 0.95, 20)
"""AR(1) coefficients from one point to the next that are weighed, all equally likely beforehand."""
APART = 1_000
"""Steps between the points of two parts: so far apart nothing ties them together."""
EFFICIENCY = 3 / math.pi
"""Of Theil-Sen against least squares, for normal noise (Sen 1968)."""


@dataclass(frozen=True, slots=True)
class Slope:
    """A slope in units of y per unit of x; each bound is one-sided."""

    value: float
    low: float
    high: float
    p: float
    """One-sided Mann-Kendall p-value of a rise, its variance widened for dependence (Yue & Wang 2004)."""
    n: int
    """Points."""

    @property
    def rises(self) -> bool:
        """Whether a rise is shown: the lower bound is above zero, and the ranks say the same."""
        return self.low > 0 and self.p < 1 - CONFIDENCE


def slope(
    x: FloatArray, y: FloatArray, *, places: IntArray | None = None, parts: IntArray | None = None, grain: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Slope | None:  # fmt: skip
    """The slope of y over x; None of fewer than 8 points, or where all x are the same.

    places: where each point lies in a series of equal steps, so that a gap weakens the tie between its neighbours; its
    ascending index when not given. grain: the step that y cannot be known closer than: no bound is nearer to the value
    than one grain over the whole of x. parts: where x was broken off and taken up again, which part each point belongs
    to, 0 first: one slope is common to all, each part has a level of its own, and no pair of points joins two of them.
    """
    parts = np.zeros(len(x), dtype=np.int64) if parts is None else parts
    sizes = np.bincount(parts)
    extent = sum(float(np.ptp(x[parts == part])) for part in np.flatnonzero(sizes))
    if len(x) < LEAST_POINTS or extent == 0:
        return None
    places = (np.arange(len(x), dtype=np.int64) if places is None else places) + APART * parts
    rows, columns = _upper(len(x))
    joined = parts[rows] == parts[columns]
    steep, apart = (y[rows] - y[columns])[joined], (x[rows] - x[columns])[joined]
    value = float(np.median(steep[apart != 0] / apart[apart != 0]))
    weights, errors = _mixture(x, y, tuple(int(place) for place in places - places[0]), parts, extent)
    freedom = len(x) - 1 - int((sizes > 0).sum())
    within = max(_half_width(weights, errors, freedom, confidence), grain / extent)
    return Slope(
        value=value,
        low=value - within,
        high=value + within,
        p=_mann_kendall(float(np.sign(steep * apart).sum()), sizes, weights),
        n=len(x),
    )


@lru_cache(maxsize=64)
def _upper(n: int) -> tuple[IntArray, IntArray]:
    """Row and column of each pair, the later point first."""
    rows, columns = np.triu_indices(n, 1)
    return columns, rows


@lru_cache(maxsize=256)
def _ties(places: tuple[int, ...]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """For each strength: correlations of the points (n x n), their inverse, the logarithm of their determinant."""
    at = np.array(places, dtype=np.float64)
    correlations = STRENGTHS[:, None, None] ** np.abs(at[:, None] - at[None, :])
    determinant: FloatArray = np.linalg.slogdet(correlations)[1]
    inverse = np.asarray(np.linalg.inv(correlations), dtype=np.float64)
    return correlations, inverse, determinant


def _mixture(
    x: FloatArray, y: FloatArray, places: tuple[int, ...], parts: IntArray, extent: float
) -> tuple[FloatArray, FloatArray]:
    """(weight, standard error of the slope) for each strength of dependence.

    Weights by the restricted likelihood of a line with AR(1) noise (Cheang & Reinsel 2000: nearly without the bias of
    plain estimates in short series). The error is that of least squares under such noise, over Theil-Sen's efficiency.
    """
    correlations, inverse, determinant = _ties(places)
    scale = float(np.ptp(y)) or 1.0
    own = [np.asarray(parts == part, dtype=np.float64) for part in np.unique(parts)]
    centred = x - sum(one * (float(one @ x) / float(one.sum())) for one in own)
    line = np.stack([*own, centred / extent], axis=1)
    freedom = len(x) - line.shape[1]
    y = (y - y.mean()) / scale
    information = line.T @ inverse @ line
    fitted = np.linalg.solve(information, (line.T @ inverse @ y)[..., None])[..., 0]
    rest = y - fitted @ line.T
    squares = np.maximum(np.einsum("ki,kij,kj->k", rest, inverse, rest), 1e-12)
    likelihood = -0.5 * (determinant + np.linalg.slogdet(information)[1] + freedom * np.log(squares))
    weights = np.exp(likelihood - likelihood.max())
    centred = line[:, -1]
    spread = (correlations @ centred) @ centred / float(centred @ centred) ** 2
    errors = np.sqrt(squares / freedom * spread / EFFICIENCY) * scale / extent
    return weights / weights.sum(), errors


def _half_width(weights: FloatArray, errors: FloatArray, freedom: int, confidence: float) -> float:
    """The quantile of the mixture of t-distributions, by halving."""
    low, high = 0.0, float(errors.max() * special.stdtrit(freedom, confidence))
    for _ in range(40):
        middle = (low + high) / 2
        if float(weights @ special.stdtr(freedom, middle / errors)) < confidence:
            low = middle
        else:
            high = middle
    return high


def _mann_kendall(concordance: float, sizes: IntArray, weights: FloatArray) -> float:
    """One-sided p-value of Kendall's S under dependence: its variance times n / n_effective, for each strength.

    sizes: of the parts, whose S and variances add up (Hirsch, Slack & Smith 1982).
    """
    variance = np.zeros(len(STRENGTHS))
    for n in (int(size) for size in sizes):
        lags = np.arange(1, n)
        inflated = 1 + 2 * ((1 - lags / max(n, 1)) * STRENGTHS[:, None] ** lags).sum(axis=1)
        variance += n * (n - 1) * (2 * n + 5) / 18 * inflated
    z = (concordance - math.copysign(1.0, concordance)) / np.sqrt(variance)
    return float(weights @ special.ndtr(-z)) if concordance else 0.5
