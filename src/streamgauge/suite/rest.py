"""What is left of a run that was cut off: each way in which a test can go on. Pure.

Rules: what is left is of the same plan, in its order; nothing that is judged is done twice. What was open when the run
was cut off has no end and no part in any number: it is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from streamgauge.clock import MS, S
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.suite.contract import Cut
from streamgauge.suite.folder import GAP
from streamgauge.summary import Phase as Ran

STARTS_PER_S = 100
"""A level is reached from nothing at so many starts a second."""
TOLERANCE_NS = 100 * MS
OWN = ("warmup",)
"""Done again whenever a run goes on: connections and caches are cold."""


def requests_left(cut: Cut) -> tuple[Phase, ...] | str:
    """For a test whose requests are each judged for themselves: those of the judged phases that have not ended.

    A lane goes on at its place in the plan's order. Where time ends a phase, the rest of its time is left.
    """
    judged = cut.head.judged_phases
    left: list[Phase] = []
    for phase in cut.head.phases:
        if phase.name not in judged:
            left += [phase] if phase.name in OWN else []
            continue
        if any(not isinstance(lane.load, Hold) for lane in phase.lanes):
            return "in open loop requests come due whatever happens: what came due while nobody sent is lost"
        lanes = tuple(_lane_left(lane, cut) for lane in phase.lanes)
        rest = msgspec.structs.replace(phase, lanes=lanes, duration_ns=_time_left(phase, cut))
        if rest.requests != 0 and rest.duration_ns != 0:
            left.append(rest)
    return tuple(left) if any(phase.name in judged for phase in left) else ()


def _lane_left(lane: Lane, cut: Cut) -> Lane:
    done = sum(cut.judged.get(name, 0) for name in lane.targets)
    if lane.requests is None:
        return msgspec.structs.replace(lane, first=done)
    left = max(lane.requests * max(cut.story.rounds, 1) - done, 0)
    return msgspec.structs.replace(lane, requests=left, first=max(lane.requests - left, 0))


def _time_left(phase: Phase, cut: Cut) -> int | None:
    """ns of the phase that were not run; None where time does not end it."""
    if phase.duration_ns is None:
        return None
    ran = sum(p.end_ns - p.start_ns for p in cut.story.phases if (p.name, p.level) == (phase.name, phase.level))
    return max(phase.duration_ns - ran, 0)


def levels_left(cut: Cut) -> tuple[Phase, ...] | str:
    """For a climb whose levels are each held for themselves: those that were not, the first of them reached from
    nothing. What a recovery follows is run before it, also where it had been: a service that had a pause has recovered.
    After the first recovery only what the test decides on while it runs is left, so the warm-up alone is planned.
    """
    planned, seen = cut.head.phases, cut.story.phases
    if any(not isinstance(lane.load, Hold) for phase in planned for lane in phase.lanes if phase.name not in OWN):
        return "in open loop requests come due whatever happens: what came due while nobody sent is lost"
    if cut.story.gave_up:
        last = cut.story.gave_up[-1]
        return f"it had given up at {last.level} users ({last.why}), and how it came back from that was lost"
    own = tuple(phase for phase in planned if phase.name in OWN)
    whole = {(one.name, one.level) for one in planned for of in seen if _ran(one, of)}
    if any(one.name == "recovery" and (one.name, one.level) in whole for one in planned):
        return own
    levels = [i for i, one in enumerate(planned) if one.name in ("hold", "stress")]
    at = next((i for i in levels if (planned[i].name, planned[i].level) not in whole), levels[-1])
    ramp = planned[at - 1]
    spread = max(ramp.duration_ns or 0, ramp.streams * S // STARTS_PER_S)
    lanes = tuple(msgspec.structs.replace(one, load=Hold(one.load.most, spread)) for one in ramp.lanes)
    return (*own, msgspec.structs.replace(ramp, lanes=lanes, duration_ns=spread), *planned[at:])


def _ran(planned: Phase, seen: Ran) -> bool:
    """Whether the phase was run to its end."""
    same = (planned.name, planned.level) == (seen.name, seen.level)
    return same and seen.end_ns - seen.start_ns >= (planned.duration_ns or 0) - TOLERANCE_NS


def phases_left(*, anew: Collection[str] = ()) -> Callable[[Cut], tuple[Phase, ...] | str]:
    """For a test that goes on phase by phase: the one that was cut off, and those after it.

    anew: phases that only speak as a whole, so that one that was cut off is run from its beginning. The others have
    the rest of their time.
    """

    def left(cut: Cut) -> tuple[Phase, ...] | str:
        planned = cut.head.phases
        seen = [phase for phase in cut.story.phases if phase.name not in ("drain", GAP, *OWN)]
        if not seen:
            return tuple(planned)
        last = seen[-1]
        at = max((i for i, one in enumerate(planned) if (one.name, one.level) == (last.name, last.level)), default=None)
        if at is None:
            return f"its phase {last.name} at {last.level} was not in the plan that it began with"
        cut_off = planned[at]
        if cut_off.name in anew:
            done = cut_off.duration_ns is not None and last.end_ns - last.start_ns >= cut_off.duration_ns
        else:
            cut_off = msgspec.structs.replace(cut_off, duration_ns=_time_left(cut_off, cut))
            done = cut_off.duration_ns == 0
        after = planned[at + 1 :] if done else (cut_off, *planned[at + 1 :])
        return (*(phase for phase in planned[:at] if phase.name in OWN), *after) if after else ()

    return left
