"""How long the streams of a run lived, how each ended, and whether its pace held until then. Pure.

Rules:
- A stream is one HTTP response. It is whole when it lived as long as it was to, by its own end or by the plan's.
- A good answer that ended before is a part: the model had no more to say, and was asked again. Nothing was lost, and
  nothing is shown of a long stream either. One that the plan ended young is left out.
- All others are lost, each with the age at which it died.
- Pace is text reads a second; a fifth of a stream's life at its end is compared with a fifth at its beginning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

from streamgauge.columns import MISSING, OUTCOMES, Columns, FloatArray, IntArray
from streamgauge.sample import GOOD, Outcome

PARTS, EDGE = 20, 4
"""A life is cut into so many equal parts; so many at each edge are compared."""
LEAST_READS, LEAST_S = 60, 5.0
"""Streams with fewer text reads, or shorter, have no pace to compare."""
MOST_LIVES = 400


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One stream from birth to end."""

    id: str
    target: str
    slot: int
    born_s: float
    """When its request was sent, from the run's start."""
    age_s: float
    kind: str
    """`whole`, `part` (the model ended it), `lost`, or `cut` (by the plan, young)."""
    outcome: str
    silent_s: float
    """How long nothing came before its end."""
    before: int
    """How many requests its connection had carried before."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Text reads a second over the life of a stream, as a share of each stream's own mean."""

    streams: int
    kept: float
    """End over beginning."""
    low: float
    high: float
    begin_per_s: float
    end_per_s: float
    profile: list[float]
    """Of equal parts of a life, from its first token on."""


class Lives(msgspec.Struct, frozen=True, kw_only=True):
    """All long streams of a run."""

    wanted_s: float
    """How long each was to live."""
    whole: int
    parts: int
    lost: int
    cut: int
    longest_s: float | None
    on_used: int
    """Whole ones on a connection that had carried others before."""
    on_fresh: int
    in_sequence: int
    """Most whole ones one after another in a slot."""
    stalls: int
    """Silences over 2 s within streams; a pause between two of them is none."""
    pace: Pace | None
    """Null where no stream was long enough to have one."""
    lives: list[Life]
    """In order of birth; of very many the lost ones, then the longest."""


@dataclass(frozen=True, slots=True)
class Lived:
    """Streams as arrays: their rows, s from sent to end, and what became of each."""

    rows: IntArray
    age: FloatArray
    whole: npt.NDArray[np.bool_]
    part: npt.NDArray[np.bool_]
    lost: npt.NDArray[np.bool_]
    cut: npt.NDArray[np.bool_]


def lived(columns: Columns, rows: IntArray, wanted_s: float) -> Lived:
    """What became of each stream; requests that were never sent, and those that our own limits ended, are left out."""
    sent = columns.facts["sent_ns"]
    own = columns.having(rows, (Outcome.CLIENT_LIMIT, Outcome.SHED))
    rows = rows[~own]
    born = np.where(sent[rows] == MISSING, columns.due[rows], sent[rows])
    age = (columns.end[rows] - born) / 1e9
    good, cancelled = columns.having(rows, GOOD), columns.having(rows, (Outcome.CANCELLED,))
    old = age >= wanted_s
    return Lived(
        rows, age, whole=(good | cancelled) & old, part=good & ~old, lost=~good & ~cancelled, cut=cancelled & ~old
    )


def lives_of(columns: Columns, rows: IntArray, wanted_s: float, start_ns: int, confidence: float) -> Lives:
    """The report's part."""
    found = lived(columns, rows, wanted_s)
    before = columns.facts["conn_requests"][found.rows]
    return Lives(
        wanted_s=wanted_s,
        whole=int(found.whole.sum()),
        parts=int(found.part.sum()),
        lost=int(found.lost.sum()),
        cut=int(found.cut.sum()),
        longest_s=round(float(found.age.max()), 3) if len(found.age) else None,
        on_used=int((found.whole & (before > 0)).sum()),
        on_fresh=int((found.whole & (before <= 0)).sum()),
        in_sequence=_in_sequence(columns, found),
        stalls=int(columns.stalls[found.rows].clip(min=0).sum()),
        pace=pace(columns, found, wanted_s, confidence),
        lives=_told(columns, found, start_ns),
    )


def _told(columns: Columns, found: Lived, start_ns: int) -> list[Life]:
    order = np.lexsort((-found.age, ~found.lost))[:MOST_LIVES]
    rows = found.rows[order]
    born = np.where(columns.facts["sent_ns"][rows] == MISSING, columns.due[rows], columns.facts["sent_ns"][rows])
    heard = np.maximum(born, np.maximum(columns.facts["first_byte_ns"][rows], columns.last_output[rows]))
    lives = []
    for place, row, birth, last in zip(order.tolist(), rows.tolist(), born.tolist(), heard.tolist(), strict=True):
        identity = columns.facts["id"][row]
        kinds = (("whole", found.whole), ("part", found.part), ("lost", found.lost), ("cut", found.cut))
        lives.append(
            Life(
                id=identity.decode() if isinstance(identity, bytes) else str(identity),
                target=columns.targets[columns.target[row]], slot=int(columns.slot[row]),
                born_s=round((birth - start_ns) / 1e9, 3), age_s=round(float(found.age[place]), 3),
                kind=next(name for name, among in kinds if among[place]), outcome=OUTCOMES[columns.outcome[row]].value,
                silent_s=round((int(columns.end[row]) - last) / 1e9, 3),
                before=max(int(columns.facts["conn_requests"][row]), 0),
            )
        )  # fmt: skip
    return sorted(lives, key=lambda one: (one.born_s, one.id))


def _in_sequence(columns: Columns, found: Lived) -> int:
    """Most whole streams one after another in one slot."""
    most = 0
    for slot in np.unique(columns.slot[found.rows]):
        of_slot = columns.slot[found.rows] == slot
        count = 0
        for whole in found.whole[of_slot][np.argsort(columns.due[found.rows[of_slot]], kind="stable")]:
            count = count + 1 if whole else 0
            most = max(most, count)
    return most


def pace(columns: Columns, found: Lived, wanted_s: float, confidence: float) -> Pace | None:
    """Pace at the end against the beginning, over all streams that lived at least half of what was wanted.

    Where none did, over all long enough to have a pace. Bounds: Student's t of the streams' own log ratios; of fewer
    than three streams Welch's t of their parts, which takes the parts for independent.
    """
    gaps, lengths = columns.gaps_of(found.rows)
    ends = np.cumsum(lengths)
    profiles, rates = [], []
    for half in (wanted_s / 2, 0.0):
        for place in np.flatnonzero((lengths >= LEAST_READS) & (found.age >= max(half, LEAST_S))).tolist():
            times = np.cumsum(gaps[ends[place] - lengths[place] : ends[place]].astype(np.float64)) / 1e6
            counts, _ = np.histogram(times, bins=PARTS, range=(0.0, float(times[-1])))
            if times[-1] >= LEAST_S and counts.min() > 0:
                profiles.append(counts / counts.mean())
                rates.append(len(times) / float(times[-1]))
        if profiles:
            break
    if not profiles:
        return None
    each = np.array(profiles)
    begins, ends_ = each[:, :EDGE], each[:, -EDGE:]
    ratios = np.log(np.median(ends_, axis=1) / np.median(begins, axis=1))
    if len(ratios) >= 3:
        freedom, error = len(ratios) - 1, float(ratios.std(ddof=1)) / math.sqrt(len(ratios))
    else:
        spread = np.log(begins).var(axis=1, ddof=1) + np.log(ends_).var(axis=1, ddof=1)
        freedom, error = 2 * (EDGE - 1) * len(ratios), math.sqrt(float(spread.mean()) / EDGE / len(ratios))
    middle, within = float(ratios.mean()), float(special.stdtrit(freedom, confidence)) * error
    mean = float(np.mean(rates))
    profile = each.mean(axis=0)
    return Pace(
        streams=len(ratios), kept=math.exp(middle), low=math.exp(middle - within), high=math.exp(middle + within),
        begin_per_s=mean * float(profile[:EDGE].mean()), end_per_s=mean * float(profile[-EDGE:].mean()),
        profile=[round(float(x), 4) for x in profile],
    )  # fmt: skip
