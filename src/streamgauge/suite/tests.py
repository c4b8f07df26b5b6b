"""The tests there are."""

from __future__ import annotations

from streamgauge.suite import concurrent, ttft
from streamgauge.suite.contract import Test

TESTS: dict[str, Test] = {
    "ttft": Test(ttft.phases, "ttft_ms"),
    "concurrent": Test(concurrent.phases, "concurrency_held"),
}
"""By name, in the order of `spec.presets.TESTS`. A test is its file and its line here."""
