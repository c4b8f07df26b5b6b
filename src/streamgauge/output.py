"""What the output of one answer told so far: how many events of which kind, when the first and the last, the gaps.

Rules: a gap lies between two texts that come one behind the other, with nothing else that is output between them; texts
at the same time have none. A stall is a pause in output of any kind. Events that share a read share its stamp; all but
the last of them came up to their slack before it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from operator import sub

from streamgauge.dialects.contract import MALFORMED, OUTPUT, REASONING, STEP, TEXT, TOOL, UNKNOWN
from streamgauge.sample import MERGED_NS, SPILL_GAPS, STALL_NS, GapsPart

MOST_GAP = 0xFFFF_FFFF
"""us; a longer gap is written as this."""


class Output:
    """Counts and stamps (ns) of one answer's output; None is not seen yet. `spill` takes gaps that become many."""

    __slots__ = (
        "_broken", "_id", "_parts", "_spill", "first", "first_reasoning", "first_reasoning_slack", "first_slack",
        "first_text", "first_text_slack", "gaps", "known", "last", "last_slack", "last_text", "longest_gap",
        "malformed", "merged", "reads", "reasonings", "stalled_ns", "stalls", "texts", "tools", "unknown",
    )  # fmt: skip

    def __init__(self, stream_id: str, spill: Callable[[GapsPart], None] | None) -> None:
        self._id = stream_id
        self._spill = spill
        self._parts = 0
        self._broken = True
        """Whether something else than text came since the last text."""
        self.first: int | None = None
        self.first_text: int | None = None
        self.first_reasoning: int | None = None
        self.last: int | None = None
        self.last_text: int | None = None
        self.first_slack = self.first_text_slack = self.first_reasoning_slack = self.last_slack = 0
        self.texts = self.reasonings = self.tools = self.reads = self.merged = 0
        self.known = self.unknown = self.malformed = 0
        self.gaps: array[int] = array("I")
        """us, those that were not spilt."""
        self.longest_gap: int | None = None
        self.stalls = self.stalled_ns = 0

    def __repr__(self) -> str:
        return f"<Output of {self._id[:8]}: {self.texts} texts, {self.reasonings} reasonings, {self.tools} tools>"

    @property
    def gap_parts(self) -> int:
        """How many parts of the gaps were spilt."""
        return self._parts

    def event(self, bits: int, stamp: int, slack: int) -> None:
        """One event with output; `read_over` closes its read."""
        if self.first is None:
            self.first, self.first_slack = stamp, slack
        if bits & TEXT:
            self.texts += 1
            if slack > MERGED_NS:
                self.merged += 1
            previous = self.last_text
            if previous is None:
                self.first_text, self.first_text_slack = stamp, slack
            elif stamp > previous and not self._broken:
                self._gaps_of((stamp - previous,))
            self.last_text = stamp
            self._broken = False
        if bits & REASONING:
            self.reasonings += 1
            if self.first_reasoning is None:
                self.first_reasoning, self.first_reasoning_slack = stamp, slack
        if bits & TOOL:
            self.tools += 1
        self.last_slack = slack
        self.known += 1

    def other(self, bits: int) -> None:
        """What an event brought besides text."""
        if bits & (STEP | REASONING | TOOL):
            self._broken = True
        if bits & UNKNOWN:
            self.unknown += 1
        elif bits & MALFORMED:
            self.malformed += 1
        elif not bits & OUTPUT:
            self.known += 1

    def read_over(self, stamp: int) -> None:
        """A read with output ends: the pause before it."""
        if self.last is not None and stamp > self.last:
            self.pause(stamp - self.last)
        self.last = stamp
        self.reads += 1

    def alike(self, stamps: list[int]) -> None:
        """Reads with one text each and nothing else, behind a text: what `event` and `read_over` do for each."""
        self.event(TEXT, stamps[0], 0)
        self.read_over(stamps[0])
        steps = list(map(sub, stamps[1:], stamps))
        if not steps:
            return
        longest = max(steps)
        if longest > STALL_NS:
            for ns in steps:
                self.pause(ns)
        elif longest > (self.longest_gap or 0):
            self.longest_gap = longest
        self._gaps_of(steps)
        self.texts += len(steps)
        self.known += len(steps)
        self.reads += len(steps)
        self.last = self.last_text = stamps[-1]

    def pause(self, ns: int) -> None:
        """So long there was no output."""
        if self.longest_gap is None or ns > self.longest_gap:
            self.longest_gap = ns
        if ns > STALL_NS:
            self.stalls += 1
            self.stalled_ns += ns

    def _gaps_of(self, steps: Iterable[int]) -> None:
        """Between texts that come one behind the other, in ns. The gaps go to the run folder when they are many."""
        gaps = self.gaps
        found = [(ns + 500) // 1_000 for ns in steps if ns > 0]
        try:
            gaps.fromlist(found)
        except OverflowError:  # all of them or none are taken
            gaps.fromlist([min(us, MOST_GAP) for us in found])
        if len(gaps) >= SPILL_GAPS and self._spill is not None:
            self._spill(GapsPart(self._id, self._parts, gaps.tobytes()))
            self._parts += 1
            del gaps[:]
