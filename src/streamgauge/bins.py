"""Equal parts of a run's time: how wide they are, and quantiles in each. Pure; for pictures, not for claims."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streamgauge import stats

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

WIDTHS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)


def width_s(length_s: float, most: int) -> float:
    """The narrowest round width of which `most` cover the length."""
    return next((width for width in WIDTHS_S if length_s / width <= most), math.ceil(length_s / most))


def how_many(length_s: float, width: float) -> int:
    """Parts of this width that cover the length, at least one."""
    return max(1, math.ceil(length_s / width - 1e-9))


def edges_ns(start_ns: int, width: float, parts: int) -> IntArray:
    """The parts' borders, one more than there are parts."""
    return start_ns + (np.arange(parts + 1) * width * 1e9).astype(np.int64)


def place(edges: IntArray, at_ns: IntArray) -> IntArray:
    """In which part each time lies; what lies outside is in the first or the last one."""
    return np.clip(np.searchsorted(edges, at_ns, "right") - 1, 0, len(edges) - 2)


def quantiles(values: FloatArray, where: IntArray, parts: int, qs: Sequence[float]) -> tuple[list[float | None], ...]:
    """For each q the nearest rank of every part's values; None where it has none or the rank falls on an infinity."""
    order = np.lexsort((values, where))
    bounds = np.searchsorted(where[order], np.arange(parts + 1))
    ordered = values[order]
    found: tuple[list[float | None], ...] = tuple([] for _ in qs)
    for i in range(parts):
        own = ordered[bounds[i] : bounds[i + 1]]
        for q, into in zip(qs, found, strict=True):
            value = stats.quantile(own, q)
            into.append(value if value is not None and math.isfinite(value) else None)
    return found
