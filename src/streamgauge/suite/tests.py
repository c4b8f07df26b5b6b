"""The tests there are."""

from __future__ import annotations

from streamgauge.suite import concurrent, endurance, memory, strained, stress, ttft
from streamgauge.suite.contract import Test
from streamgauge.suite.rest import levels_left, phases_left, requests_left

TESTS: dict[str, Test] = {
    "ttft": Test(ttft.phases, "ttft_ms", rest=requests_left),
    "concurrent": Test(concurrent.phases, "concurrency_held", lost="it judges one hold without a break"),
    "endurance": Test(
        endurance.phases,
        endurance.COMPLETE,
        see=endurance.see,
        decides=endurance.decides,
        needs=endurance.needs,
        careful=True,
        lost="its streams were cut off, and a stream that was cut off is lost",
    ),
    "memory": Test(
        memory.phases,
        memory.GROWTH,
        see=memory.see,
        decides=memory.decides,
        collects=True,
        needs_probe=True,
        careful=True,
        rest=phases_left(anew=("burst", "idle")),
    ),
    "stress": Test(
        stress.phases,
        "capacity",
        see=strained.see,
        needs=stress.needs,
        careful=True,
        forgiven=stress.FORGIVEN,
        later=stress.later,
        course=stress.climber,
        rest=levels_left,
    ),
}
"""By name, in the order of `spec.presets.TESTS`. A test is its file and its line here."""
