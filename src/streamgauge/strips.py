"""Lives of long streams: when each was born and died, how it ended, and whether deaths share an age.

Rules: long is a target's phase whose streams last 30 s or more in the middle; where the test is about long streams,
every one counts. A life runs from `sent` (or `start`, where nothing was sent) to `end`. A lane is a slot: its streams
follow one another; in open loop a lane is taken by whoever comes next. Of many lanes the worst are kept whole, and an
even sample of the others; deaths in lanes that are not shown are kept apart. `n`, `lanes`, `outcomes` count them all.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from streamgauge.bins import FloatArray, IntArray
from streamgauge.columns import MISSING, OUTCOMES, BoolArray, Columns
from streamgauge.findings.cuts import AGE_WITHIN_S, LEAST, LEAST_S, WITHIN
from streamgauge.sample import GOOD, NOT_JUDGED

LONG_S = 30.0
MOST_LANES, MOST_STRIPS, MOST_DEATHS = 48, 800, 400
SHARE = 0.2
MOST_AGES = 3
"""Equal ages that are told of one target."""


class Strip(msgspec.Struct, frozen=True, kw_only=True):
    """One stream. Times from the run's start."""

    id: str
    target: str
    lane: int | None
    """Streams of one lane follow one another; from 0. Null where its lane is not shown."""
    phase: str
    from_s: float
    to_s: float
    outcome: str


class EqualAge(msgspec.Struct, frozen=True, kw_only=True):
    """So many of a target's deaths at one age."""

    target: str
    age_s: float
    k: int
    n: int
    """All its streams that did not end well."""


class Strips(msgspec.Struct, frozen=True, kw_only=True):
    """The long streams of a run."""

    n: int
    """How many there were."""
    lanes: int
    """Lanes there were."""
    outcomes: dict[str, int]
    """How all of them ended."""
    shown: list[Strip]
    """Of at most 48 lanes all streams, or, where one lane has over 800, the dead and an even sample."""
    deaths: list[Strip]
    """Streams in other lanes that did not end well: of over 400 an even sample by age."""
    ages: list[EqualAge]


def strips(columns: Columns, targets: Sequence[str], *, start_ns: int, all_long: bool = False) -> Strips | None:
    """The lives of the long streams of `targets`; None where there are none. all_long: the test is about them."""
    rows = _long(columns, targets, all_long=all_long)
    if not len(rows):
        return None
    born = _born(columns, rows)
    rows = rows[np.lexsort((columns.end[rows], born))]
    born, died = _born(columns, rows), columns.end[rows]
    good, planned = columns.having(rows, GOOD), columns.having(rows, NOT_JUDGED)
    dead = ~good & ~planned
    lanes = _lanes(columns, rows, born, died)
    age_s = (died - born) / 1e9
    chosen = _chosen(lanes, dead, age_s)
    renamed = {lane: i for i, lane in enumerate(chosen.tolist())}
    inside = np.isin(lanes, chosen)
    shown = np.flatnonzero(inside)
    if len(shown) > MOST_STRIPS:
        by_age = np.lexsort((age_s[shown], ~dead[shown]))
        shown = np.sort(_worst_and_sample(shown[by_age], int(dead[shown].sum()), MOST_STRIPS))
    others = np.flatnonzero(dead & ~inside)
    others = np.sort(_even(others[np.argsort(age_s[others], kind="stable")], MOST_DEATHS))

    def told(i: int) -> Strip:
        row = int(rows[i])
        one = columns.facts["id"][row]
        return Strip(
            id=one.decode() if isinstance(one, bytes) else str(one),
            target=columns.targets[columns.target[row]],
            lane=renamed.get(int(lanes[i])),
            phase=columns.phases[columns.phase[row]],
            from_s=round((int(born[i]) - start_ns) / 1e9, 3),
            to_s=round((int(died[i]) - start_ns) / 1e9, 3),
            outcome=OUTCOMES[columns.outcome[row]].value,
        )

    counts = np.bincount(columns.outcome[rows], minlength=len(OUTCOMES)).tolist()
    return Strips(
        n=len(rows),
        lanes=int(lanes.max()) + 1,
        outcomes={outcome.value: k for outcome, k in zip(OUTCOMES, counts, strict=True) if k},
        shown=[told(i) for i in shown.tolist()],
        deaths=[told(i) for i in others.tolist()],
        ages=[
            age
            for name in targets
            for age in equal_ages(name, age_s[dead & (columns.target[rows] == _code(columns, name))])
        ],
    )


def _code(columns: Columns, target: str) -> int:
    return columns.targets.index(target) if target in columns.targets else -1


def _born(columns: Columns, rows: IntArray) -> IntArray:
    sent = columns.facts["sent_ns"][rows]
    return np.asarray(np.where(sent == MISSING, columns.start[rows], sent), dtype=np.int64)


def _long(columns: Columns, targets: Sequence[str], *, all_long: bool) -> IntArray:
    """Rows of the streams that count as long; warm-up never does."""
    found = []
    for target in targets:
        for phase in columns.phases:
            rows = columns.select(targets=[target], phases=[phase])
            rows = rows[columns.start[rows] != MISSING]
            if not len(rows) or phase == "warmup":
                continue
            if all_long or float(np.median(columns.end[rows] - _born(columns, rows))) >= LONG_S * 1e9:
                found.append(rows)
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _lanes(columns: Columns, rows: IntArray, born: IntArray, died: IntArray) -> IntArray:
    """A lane for each of `rows` (in order of birth): its slot's, or another of it where two overlap."""
    free: dict[tuple[int, int], list[tuple[int, int]]] = {}
    lanes = np.zeros(len(rows), dtype=np.int64)
    order = np.lexsort((born, columns.slot[rows], columns.target[rows]))
    count = 0
    for i in order.tolist():
        heap = free.setdefault((int(columns.target[rows[i]]), int(columns.slot[rows[i]])), [])
        if heap and heap[0][0] <= born[i]:
            lane = heapq.heappop(heap)[1]
        else:
            lane, count = count, count + 1
        heapq.heappush(heap, (int(died[i]), lane))
        lanes[i] = lane
    return lanes


def _chosen(lanes: IntArray, dead: BoolArray, age_s: FloatArray) -> IntArray:
    """The lanes that are shown, ascending: as many as have room with all their streams, the worst of them first."""
    sizes = np.bincount(lanes)
    deaths = np.bincount(lanes[dead], minlength=len(sizes))
    youngest = np.full(len(sizes), np.inf)
    np.minimum.at(youngest, lanes[dead], age_s[dead])
    order = np.lexsort((np.arange(len(sizes)), youngest, -deaths))
    room = MOST_LANES if sizes.sum() <= MOST_STRIPS else max(1, MOST_STRIPS // int(sizes.max()))
    return np.sort(_worst_and_sample(order, int((deaths > 0).sum()), min(MOST_LANES, room)))


def _worst_and_sample(order: IntArray, bad: int, most: int) -> IntArray:
    """At most `most` of `order`, whose first `bad` are bad: half of them bad ones, more where there are few others.

    Where there are more of a kind than have room, an even sample of it, with its first and its last.
    """
    if len(order) <= most:
        return order
    worst = min(bad, max(most // 2, most - (len(order) - bad)))
    return np.concatenate((_even(order[:bad], worst), _even(order[bad:], most - worst)))


def _even(of: IntArray, most: int) -> IntArray:
    if len(of) <= most:
        return of
    return of[np.unique(np.linspace(0, len(of) - 1, most).round().astype(np.int64))]


def equal_ages(target: str, ages_s: Iterable[float]) -> list[EqualAge]:
    """Ages at which at least three streams and a fifth of the dead died, within 1 % and 0.1 s; the most frequent first.

    Of many deaths a few are of equal age by chance, hence the fifth.
    """
    left = np.sort(np.array(list(ages_s), dtype=np.float64))
    n = len(left)
    found: list[EqualAge] = []
    while len(left) >= LEAST and len(found) < MOST_AGES:
        ends = np.searchsorted(left, left * (1 + WITHIN) + AGE_WITHIN_S, "right")
        sizes = np.where(left >= LEAST_S, ends - np.arange(len(left)), 0)
        first = int(np.argmax(sizes))
        size = int(sizes[first])
        if size < max(LEAST, SHARE * n):
            break
        group = left[first : first + size]
        found.append(EqualAge(target=target, age_s=round(float(np.median(group)), 2), k=size, n=n))
        left = np.delete(left, slice(first, first + size))
    return found
