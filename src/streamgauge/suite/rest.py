"""What is left of a run that was cut off: each way in which a test can go on. Pure.

Rules: what is left is of the same plan, in its order; nothing that is judged is done twice. What was open when the run
was cut off has no end and no part in any number: it is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from streamgauge.plan import Hold, Lane, Phase
from streamgauge.suite.contract import Cut
from streamgauge.suite.folder import GAP

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
