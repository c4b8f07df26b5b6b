"""TTFT over time as a heat map: how many requests of each time bin had their first token after how long.

Rules: a picture, not a claim. A request stands in the bin in which it came due, whatever its phase. Both axes are cut
so that the earliest, the latest, the fastest and the slowest are in it: nothing is clipped away. One that did not end
well counts in `failed`; where it gave a first token first, it stands in its cell as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from streamgauge import bins
from streamgauge.bins import FloatArray, IntArray
from streamgauge.columns import Columns, population
from streamgauge.metrics import METRICS
from streamgauge.sample import GOOD, NOT_JUDGED

LEAST_REQUESTS = 100
"""Fewer requests are seen better one by one."""
MOST_BINS, LEAST_BINS = 96, 12
REQUESTS_A_BIN = 8
MOST_ROWS, LEAST_ROWS = 26, 6
A_DECADE = (48, 32, 24, 20, 16, 12, 10, 8, 6, 5, 4, 3, 2)
"""Rows that a factor of ten may have."""
MOST_TARGETS = 4
"""More targets than this are drawn together, as one."""


class Heat(msgspec.Struct, frozen=True, kw_only=True):
    """One map: at most 96 bins of time, at most 26 of TTFT. target None: all of them."""

    target: str | None
    bin_s: float
    edges_ms: list[float]
    """Borders of the TTFT bins, equal on a logarithmic scale; one more than there are bins."""
    n: list[int]
    """Requests that came due in each bin of time."""
    failed: list[int]
    """Of those, how many did not end well."""
    p95_ms: list[float | None]
    """Null where none was due, or where more than 5 % gave no token."""
    counts: list[list[int]]
    """For each bin of time how many lie in each TTFT bin."""


def heat(columns: Columns, targets: Sequence[str], *, start_ns: int) -> list[Heat]:
    """A map for each of up to four targets, else one of them all; none below 100 requests. start_ns: of the run."""
    rows = columns.select(targets=targets)
    rows = rows[~columns.having(rows, NOT_JUDGED)]
    if len(rows) < LEAST_REQUESTS:
        return []
    parts: list[tuple[str | None, IntArray]] = [(None, rows)]
    if 1 < len(targets) <= MOST_TARGETS:
        parts = [(name, rows[columns.target[rows] == columns.targets.index(name)]) for name in targets]
    reached = _ttft(columns, rows)[1]
    if not np.isfinite(reached).any():
        return []
    length = max(1e-9, (int(columns.due[rows].max()) - start_ns) / 1e9)
    wanted = min(MOST_BINS, max(LEAST_BINS, len(rows) // len(parts) // REQUESTS_A_BIN))
    width = bins.width_s(length, wanted)
    edges = bins.edges_ns(start_ns, width, bins.how_many(length, width))
    ttft_edges = _log_edges(reached[np.isfinite(reached)])
    return [_map(columns, name, own, edges, width, ttft_edges) for name, own in parts]


def _ttft(columns: Columns, rows: IntArray) -> tuple[IntArray, FloatArray]:
    """Those of `rows` that owed a first token, and when it came, ms; infinity where it did not."""
    of = population(columns, METRICS["ttft_ms"], rows)
    return of.rows, of.values


def _log_edges(values: FloatArray) -> FloatArray:
    """Borders from below the least value to above the largest, as fine as the most rows allow."""
    low, high = math.log10(max(float(values.min()), 1e-3)), math.log10(max(float(values.max()), 1e-3))
    for a_decade in A_DECADE:
        first, last = math.floor(low * a_decade), math.floor(high * a_decade) + 1
        if last - first <= MOST_ROWS:
            break
    spare = max(0, LEAST_ROWS - (last - first))
    first, last = first - spare // 2, last + spare - spare // 2
    step = max(1, -(-(last - first) // MOST_ROWS))  # only where TTFTs span over 13 decades
    return np.asarray(10 ** (np.arange(first, last + step, step) / a_decade))


def _map(
    columns: Columns, target: str | None, rows: IntArray, edges: IntArray, width: float, ttft_edges: FloatArray
) -> Heat:
    parts = len(edges) - 1
    at = bins.place(edges, columns.due[rows])
    owed, values = _ttft(columns, rows)
    where = at[np.searchsorted(rows, owed)]
    came = np.isfinite(values)
    row = np.clip(np.searchsorted(ttft_edges, values[came], "right") - 1, 0, len(ttft_edges) - 2)
    counts = np.zeros((parts, len(ttft_edges) - 1), dtype=np.int64)
    np.add.at(counts, (where[came], row), 1)
    (p95,) = bins.quantiles(values, where, parts, (0.95,))
    return Heat(
        target=target,
        bin_s=width,
        edges_ms=[float(f"{edge:.4g}") for edge in ttft_edges],
        n=np.bincount(at, minlength=parts).tolist(),
        failed=np.bincount(at[~columns.having(rows, GOOD)], minlength=parts).tolist(),
        p95_ms=p95,
        counts=counts.tolist(),
    )
