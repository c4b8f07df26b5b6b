"""The tests there are."""

from __future__ import annotations

from streamgauge.suite import concurrent, ttft
from streamgauge.suite.contract import Test
from streamgauge.suite.rest import requests_left

TESTS: dict[str, Test] = {
    "ttft": Test(ttft.phases, "ttft_ms", rest=requests_left),
    "concurrent": Test(concurrent.phases, "concurrency_held", lost="it judges one hold without a break"),
}
"""By name, in the order of `spec.presets.TESTS`. A test is its file and its line here."""
