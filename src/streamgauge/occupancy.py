"""How much was going on at once: slots in use, open streams, tokens a second. Intervals in, numbers out.

Rules: times are integer ns on one clock. An interval is [start, end). A window is a stretch of the run that is judged;
what lies outside it counts for nothing, whichever phase a request came due in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Window = tuple[int, int]

BRIDGE_NS = 250_000_000
"""Between two requests a slot stays in use for so long at most."""
HELD = 0.05
"""concurrency_held is the count that was kept for all but this share of the time."""


def bridges(slot: npt.NDArray[np.int32], start: IntArray, end: IntArray, well: BoolArray) -> tuple[IntArray, IntArray]:
    """Intervals in which a slot was between two requests and still in use.

    From a request that ended `well` to the slot's next start, 250 ms at most. Slot -1 (open loop) has none.
    """
    order = np.lexsort((start, slot))
    slot, start, end, well = slot[order], start[order], end[order], well[order]
    follows = (slot[1:] == slot[:-1]) & (slot[1:] >= 0) & well[:-1] & (start[1:] > end[:-1])
    begins = end[:-1][follows]
    return begins, np.minimum(start[1:][follows], begins + BRIDGE_NS)


def held(start: IntArray, end: IntArray, windows: Sequence[Window], q: float = HELD) -> float | None:
    """The q-quantile, weighted by time over the windows, of how many intervals were open; None without windows.

    It is the least count L such that at most L were open for a share of at least q of the time.
    """
    times = np.concatenate((start, end))
    change = np.concatenate((np.ones(len(start), np.int64), -np.ones(len(end), np.int64)))
    order = np.argsort(times, kind="stable")
    times, count = times[order], np.cumsum(change[order])
    counts: list[IntArray] = []
    lengths: list[IntArray] = []
    for begin, finish in windows:
        if finish <= begin:
            continue
        first, last = np.searchsorted(times, begin, "right"), np.searchsorted(times, finish, "left")
        before = count[first - 1] if first else 0
        counts.append(np.concatenate(([before], count[first:last])))
        lengths.append(np.diff(np.concatenate(([begin], times[first:last], [finish]))))
    if not counts:
        return None
    levels, weights = np.concatenate(counts), np.concatenate(lengths)
    order = np.argsort(levels, kind="stable")
    passed = np.cumsum(weights[order])
    return float(levels[order][np.searchsorted(passed, q * passed[-1] * (1 - 1e-12))])


def amount_by(start: IntArray, end: IntArray, amount: FloatArray, edges: IntArray) -> FloatArray:
    """How much had passed by each edge, when each amount passes evenly from its start to its end (at once if equal).

    With amount = end - start in seconds this is stream-seconds; with amount = tokens, tokens. Exact; O(n log n).
    """
    origin = int(edges[0]) if len(edges) else 0
    begin, finish, at = ((stamps - origin) / 1e9 for stamps in (start, end, edges))
    spread = finish > begin
    rate = np.where(spread, amount / np.where(spread, finish - begin, 1.0), 0.0)
    ramp = _ramp(begin, rate, at) - _ramp(finish, rate, at)
    order = np.argsort(finish[~spread], kind="stable")
    steps = np.concatenate(([0.0], np.cumsum(amount[~spread][order])))
    return ramp + steps[np.searchsorted(finish[~spread][order], at, "right")]


def _ramp(starts: FloatArray, rate: FloatArray, at: FloatArray) -> FloatArray:
    """Sum over all starts of rate * max(0, at - start)."""
    order = np.argsort(starts, kind="stable")
    rates = np.concatenate(([0.0], np.cumsum(rate[order])))
    offsets = np.concatenate(([0.0], np.cumsum((rate * starts)[order])))
    upto = np.searchsorted(starts[order], at, "right")
    result: FloatArray = at * rates[upto] - offsets[upto]
    return result


def amount_within(start: IntArray, end: IntArray, amount: FloatArray, windows: Sequence[Window]) -> float:
    """How much passed within the windows (see amount_by)."""
    total = 0.0
    for window in windows:
        before, after = amount_by(start, end, amount, np.array(window, dtype=np.int64))
        total += float(after - before)
    return total


def seconds(windows: Sequence[Window]) -> float:
    """Total length of the windows."""
    return sum(max(0, end - begin) for begin, end in windows) / 1e9
