"""The tests there are."""

from __future__ import annotations

from streamgauge.suite import concurrent, endurance, memory, strained, stress, ttft
from streamgauge.suite.contract import Test

TESTS: dict[str, Test] = {
    "ttft": Test(ttft.phases, "ttft_ms"),
    "concurrent": Test(concurrent.phases, "concurrency_held"),
    "endurance": Test(endurance.phases, endurance.COMPLETE, see=endurance.see, careful=True),
    "memory": Test(memory.phases, memory.GROWTH, see=memory.see, collects=True, needs_probe=True, careful=True),
    "stress": Test(
        stress.phases,
        "capacity",
        see=strained.see,
        needs=stress.needs,
        careful=True,
        forgiven=stress.FORGIVEN,
        later=stress.later,
        course=stress.climber,
    ),
}
"""By name, in the order of `spec.presets.TESTS`. A test is its file and its line here."""
