"""A Sample's arrival stamps against the writes of a server that knows when it wrote. Times are ns, arrays int64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.truth_log import Answer
from streamgauge.sample import Sample, gaps_us

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fit:
    """The reads of one answer. `beyond`: how far each one's stamp lies outside its write, 0 inside."""

    beyond: Times
    several: int
    """Reads that brought more than one write: their stamp is held against the nearest one."""
    doubled: int
    """Reads whose nearest write is another read's as well: such a stamp has no write of its own."""


def stamps(sample: Sample) -> Times:
    """When each read with text ended: the first token's stamp and the gaps added up, which are rounded to 1 us."""
    assert sample.first_token_ns is not None
    assert sample.gap_parts == 0, "a long answer: its earlier gaps are in other records"
    gaps = np.asarray(gaps_us(sample.gaps), dtype=np.int64) * 1_000
    return sample.first_token_ns + np.concatenate([np.zeros(1, np.int64), np.cumsum(gaps)])


def fit(sample: Sample, answer: Answer) -> Fit:
    """Each read's stamp against the write that ended it.

    Where every text came in a read of its own the n-th stamp is the n-th write's. Where reads took several writes, the
    nearest: writes are a gap apart, many times what a stamp may be off. The last write, without text, may have ended
    the last read too; then the last text has slack.
    """
    found = stamps(sample)
    writes = np.asarray(answer.writes, dtype=np.int64)
    if len(found) == len(writes) - 1 and sample.last_output_slack_ns == 0:
        own, several, doubled = writes[:-1], 0, 0
    else:
        after = np.clip(np.searchsorted(writes[:, 0], found, side="right"), 1, len(writes) - 1)
        nearer = _outside(found, writes[after - 1]) <= _outside(found, writes[after])
        which = np.where(nearer, after - 1, after)
        steps = np.diff(which, prepend=-1)
        own, several, doubled = writes[which], int(np.sum(steps > 1)), int(np.sum(steps < 1))
    return Fit(_outside(found, own), several, doubled)


def _outside(stamps: Times, writes: Times) -> Times:
    """How far each stamp lies outside its (before, after)."""
    beyond: Times = np.maximum(np.maximum(writes[:, 0] - stamps, stamps - writes[:, 1]), 0)
    return beyond


def slack_holds(sample: Sample, answer: Answer) -> list[bool]:
    """For the first and the last text, where its stamp has slack: whether its write was within what the slack says."""
    found = []
    for stamp, slack, (before, after) in (
        (sample.first_token_ns, sample.first_token_slack_ns, answer.writes[0]),
        (sample.last_token_ns, sample.last_output_slack_ns, answer.writes[-2]),
    ):
        assert stamp is not None
        if slack:
            found.append(before <= stamp and after > stamp - slack)
    return found
