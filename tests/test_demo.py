"""`streamgauge demo`, which `make demo` runs: everything built, against the simulator; made quick by variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import undisturbed, valid_report
from streamgauge.cli.demo import _whole_length
from streamgauge.spec.load import Spec
from streamgauge.spec.presets import TESTS
from streamgauge.suite.demo import simulated_spec

pytestmark = pytest.mark.alone

QUICK = {
    f"STREAMGAUGE_TARGETS__{name}__MODEL": "sim-t60-i1-n5"
    for name in ("GPT_4O_MINI", "CLAUDE_3_5_SONNET", "GEMINI_2_FLASH")
}
SMALL = {
    "STREAMGAUGE_TTFT__REQUESTS": "6",
    "STREAMGAUGE_CONCURRENT__CONCURRENCY": "6",
    "STREAMGAUGE_CONCURRENT__REQUESTS": "12",
    "STREAMGAUGE_ENDURANCE__STREAM": "1s",
    "STREAMGAUGE_ENDURANCE__IN_SEQUENCE": "1",
    "STREAMGAUGE_MEMORY__DURATION": "2s",
    "STREAMGAUGE_MEMORY__BURST_DURATION": "1s",
    "STREAMGAUGE_MEMORY__IDLE": "1s",
    "STREAMGAUGE_STRESS__LEVELS": "[1, 4]",
    "STREAMGAUGE_STRESS__DURATION": "1s",
    "STREAMGAUGE_STRESS__FINER": "0",
}


def test_the_demo_ends_0_and_says_where_reports_lie_and_how_a_failure_looks(tmp_path: Path) -> None:
    done = undisturbed("demo", cwd=tmp_path, timeout=400, **QUICK, **SMALL)
    assert done.code == 0, done.err
    assert "no key, no cost" in done.err
    assert "The reports lie in tests/performance/reports/" in done.out
    assert "What a failure looks like: streamgauge demo --faulty" in done.out
    reports = [path for path in tmp_path.glob("tests/performance/reports/*.json") if "suite_" not in path.name]
    assert {valid_report(path.read_text("utf-8"))["test"] for path in reports} == set(TESTS)
    assert len(list(tmp_path.glob("tests/performance/reports/*"))) == 4 * len(TESTS) + 3
    (index,) = tmp_path.glob("tests/performance/reports/suite_*.json")
    assert [one["test"] for one in json.loads(index.read_text("utf-8"))["tests"]] == list(TESTS)
    for test in ("endurance", "memory"):
        assert re.search(rf"^{test} is undecided so soon: it needs about \S+ .*docs/examples/$", done.out, re.M)


def test_the_faulty_demo_ends_as_a_gate_would(tmp_path: Path) -> None:
    done = undisturbed("demo", "--faulty", "-q", cwd=tmp_path, **QUICK, STREAMGAUGE_TTFT__REQUESTS="100")
    assert done.code == 1, done.out
    assert "FAIL" in done.out


@pytest.fixture(scope="module")
def spec() -> Iterator[Spec]:
    with simulated_spec() as found:
        yield found


@pytest.mark.parametrize("test", TESTS)
def test_it_can_say_how_long_each_test_takes_whatever_that_would_cost(test: str, spec: Spec) -> None:
    assert re.fullmatch(r"about .* \(--preset standard\)", _whole_length(spec, test))
