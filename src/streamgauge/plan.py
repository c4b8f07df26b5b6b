"""What load is wanted when: phases of arrivals (open loop) or of occupied slots (closed loop). Pure.

Rules: a load shape is a function of elapsed time and a seed, nothing else, so a table of numbers tests it. A shard is
every n-th arrival, or a share of the level and of the requests; a local run is shard 0 of 1. Targets and prompt lengths
are interleaved, so that drift hits all alike: a lane takes them in turn, and lanes of one phase keep step with each
other (`lockstep`: a lane may be at most that many requests ahead of the slowest one that is not done). A target may
have a pace (requests a minute): what waits for it is due when the pace allows it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from streamgauge.arrivals import Rate, Trace, seconds_for
from streamgauge.sample import REPEATED

S = 1_000_000_000


class Hold(msgspec.Struct, frozen=True, tag="hold"):
    """Closed loop: `level` slots wanted, the new ones spread evenly over the first `spread_ns`."""

    level: int
    spread_ns: int = 0

    @property
    def most(self) -> int:
        """Streams open at once, at most."""
        return self.level

    def wanted(self, elapsed_ns: int) -> int:
        """Slots wanted `elapsed_ns` after the phase began, if it began with none."""
        if elapsed_ns < 0:
            return 0
        return sum(1 for slot in range(self.level) if self.rises(slot, 0) <= elapsed_ns)

    def rises(self, slot: int, have: int) -> int:
        """When (ns after the phase began) slot number `slot` is first wanted, if `have` slots were there already."""
        missing = self.level - have
        if slot < have or missing <= 0 or self.spread_ns == 0:
            return 0
        return self.spread_ns * (slot - have) // missing


class Lane(msgspec.Struct, frozen=True):
    """A stream of requests: its targets and prompts taken in turn, on its own share of the load."""

    targets: tuple[str, ...]
    prompts: tuple[str, ...]
    load: Hold | Rate | Trace
    requests: int | None = None
    """After how many requests the lane is done; None: the phase's duration ends it."""
    fresh: bool = False
    """Whether each request gets a connection of its own, closed after it."""
    repeats: bool = False
    """Whether every request asks the same: the first text of the first prompt set, marked once for the whole run."""
    chat_ns: int | None = None
    """Closed loop: a slot's answer that ended sooner is asked to go on, as the next turn of that chat, until its
    answers together lasted so long; then a new chat begins. None: each request is a chat of its own."""
    first: int = 0
    """The place of its first request in the plan's order: of a run that goes on after it was cut off, not 0."""


class Phase(msgspec.Struct, frozen=True):
    """A stretch of the plan. It ends when every lane is done or `duration_ns` has passed, whichever is first.

    Without a lane it is a time without load.
    """

    name: str
    lanes: tuple[Lane, ...]
    level: int
    duration_ns: int | None = None
    lockstep: int | None = None
    think_ns: int = 0
    settles: bool = False
    """Whether the next phase waits for this one's open requests: what measures alone must be alone."""
    max_tokens: int | None = None
    """Answers of this phase are at most so long, where the target's own limit is higher."""

    @property
    def requests(self) -> int | None:
        """Requests over all lanes, or None where only time ends it."""
        counts = [lane.requests for lane in self.lanes]
        return None if None in counts else sum(c for c in counts if c is not None)

    @property
    def streams(self) -> int:
        """Streams open at once, at most."""
        return sum(lane.load.most for lane in self.lanes)

    @property
    def rate(self) -> float | None:
        """Arrivals a second over all lanes, on average over the phase; None in closed loop."""
        rates = [lane_rate(lane, self.duration_ns) for lane in self.lanes if not isinstance(lane.load, Hold)]
        return sum(rates) if rates else None


def lane_end(lane: Lane, duration_ns: int | None) -> tuple[float, float]:
    """(arrivals, seconds) that an open-loop lane plans for: until its requests are due or its phase ends."""
    load = lane.load
    assert not isinstance(load, Hold)
    within = math.inf if duration_ns is None else duration_ns / S
    n = load.total if duration_ns is None else min(load.total, load.expected(duration_ns))
    if lane.requests is None:
        return n, within
    n = min(n, lane.requests)
    return n, min(seconds_for(load, lane.requests), within)


def lane_rate(lane: Lane, duration_ns: int | None) -> float:
    """Arrivals a second of an open-loop lane, on average."""
    n, seconds = lane_end(lane, duration_ns)
    return n / seconds if 0 < seconds < math.inf else 0.0


@dataclass(frozen=True, slots=True)
class Shot:
    """One request that came due: whom to ask, with which prompt, when."""

    seq: int
    target: str
    prompt: str
    prompt_index: int
    phase: str
    level: int
    slot: int
    due_ns: int


def share(total: int, shard: int, shards: int) -> int:
    """This shard's part of `total`: parts differ by at most one and sum to `total`."""
    return total // shards + (1 if shard < total % shards else 0)


def spacing_ns(rpm: float, shards: int = 1) -> int:
    """Least time between two starts of one shard to a target, so that all shards start at most `rpm` in any minute.

    A shard keeps to the whole part of its share; where that is below one a minute, only the mean is kept.
    """
    each = rpm / shards
    return math.ceil(60 * S / (math.floor(each) if each >= 1 else each))


def whose(lane: Lane, k: int) -> str:
    """The target of the lane's k-th request over all shards: they take turns."""
    return lane.targets[k % len(lane.targets)]


def pick(lane: Lane, k: int, seed: int) -> tuple[str, str]:
    """(target, prompt name) of the lane's k-th request over all shards.

    Targets in turn; for each target the prompt names come in blocks that hold each name once, in an order drawn from
    `seed` and the block, the same for every target: what is compared saw the same prompts at the same time.
    """
    if lane.repeats:
        return whose(lane, k), REPEATED
    if len(lane.prompts) == 1:
        return whose(lane, k), lane.prompts[0]
    turn = k // len(lane.targets)
    block, place = divmod(turn, len(lane.prompts))
    return whose(lane, k), lane.prompts[_order(len(lane.prompts), seed, block)[place]]


@lru_cache(maxsize=256)
def _order(count: int, seed: int, block: int) -> tuple[int, ...]:
    """The order of `count` prompts in one block. Kept, since it is asked for on the way to a start."""
    order = list(range(count))
    random.Random(seed * 1_000_003 + block).shuffle(order)
    return tuple(order)
