"""What is fixed before the first request: planned n and gating of every criterion, in closed and open loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamgauge.cli.screen import plan_lines
from streamgauge.dialects import with_options
from streamgauge.errors import UsageError
from streamgauge.spec.load import from_url
from streamgauge.spec.resolve import resolve
from streamgauge.spec.settings import Overrides
from streamgauge.suite.prepare import Prepared, check_descriptors, prepare
from streamgauge.verdict import Criterion


def planned(tmp_path: Path, test: str = "ttft", **flags: object) -> Prepared:
    return planned_at("http://127.0.0.1:9/v1/chat/completions", tmp_path, test, **flags)


def planned_at(url: str, tmp_path: Path, test: str = "ttft", *, model: str = "m", **flags: object) -> Prepared:
    spec = from_url(url, dialect="openai-chat", speak=with_options, environ={}, model=model, folder=tmp_path)
    return prepare(resolve(spec, None, {}, test, Overrides(**flags)), seed=1)  # type: ignore[arg-type]


def by_name(prepared: Prepared, beginning: str) -> Criterion:
    return next(one for one in prepared.criteria if one.name.startswith(beginning))


@pytest.mark.parametrize(
    ("preset", "p95", "p99", "errors"),
    [("smoke", (150, True), (150, False), (150, False)), ("standard", (400, True), (400, False), (400, False))],
)
def test_the_presets_plan_their_requests_and_gate_by_them(tmp_path, preset, p95, p99, errors):
    prepared = planned(tmp_path, preset=preset)

    found = [by_name(prepared, name) for name in ("ttft_ms.p95", "ttft_ms.p99", "error_rate")]
    assert [(one.planned_n, one.gating) for one in found] == [p95, p99, errors]
    assert by_name(prepared, "ttft_ms.p50").planned_n == p95[0] // 3, "one of three lengths of prompts"
    assert prepared.confidence == (0.975 if preset == "standard" else 0.95)


def test_an_open_loop_plans_rate_times_duration(tmp_path):
    prepared = planned(tmp_path, rate=10.0, duration_s=30.0)

    assert by_name(prepared, "ttft_ms.p95").planned_n == 300
    assert by_name(prepared, "ttft_ms.p95").gating


@pytest.mark.parametrize(("seconds", "does"), [(20.0, False), (120.0, True)])
def test_a_hold_by_time_gates_by_the_requests_that_fit_at_a_usual_pace(tmp_path, seconds, does):
    """4 at a time, 32 tokens at 40 tok/s after 0.5 s: 1.3 s a request. p95 gates from about 110 requests."""
    p95 = by_name(planned(tmp_path, duration_s=seconds), "ttft_ms.p95")

    assert p95.planned_n == pytest.approx(4 * seconds / 1.3, abs=1)
    assert p95.gating is does


@pytest.mark.parametrize(
    ("flags", "gates"),
    [
        ({"requests": 1}, False),
        ({"duration_s": 1.0}, False),
        ({"duration_s": 3_600.0}, True),
        ({"requests": 5_000}, True),
    ],
)
def test_growth_gates_only_where_the_hold_is_planned_to_be_long_enough(tmp_path, flags, gates):
    spec = from_url("http://127.0.0.1:9", dialect="openai-chat", speak=with_options, environ={}, model="m",
                    folder=tmp_path, sets=["probes.p.kind=process", "probes.p.port=9"])  # fmt: skip
    found = prepare(resolve(spec, None, {}, "memory", Overrides(**flags)), seed=1)
    assert by_name(found, "memory_growth").gating is gates
    assert by_name(found, "memory_unbounded").gating is gates


def test_the_level_that_the_descriptors_allow_counts_the_burst():
    with pytest.raises(UsageError, match=r"wants 300,000 streams.*the limit here is 20,000 .*--concurrency 6645\)"):
        check_descriptors(300_000, 20_000, 100_000)


def test_concurrent_plans_its_hold_and_not_its_ramp_or_reference(tmp_path):
    prepared = planned(tmp_path, "concurrent", preset="standard")

    assert by_name(prepared, "error_rate").planned_n == 2_000
    assert by_name(prepared, "error_rate").gating


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("test", ["ttft", "concurrent", "endurance", "stress"])
def test_no_line_of_a_plan_is_wider_than_told_and_no_criterion_is_broken(tmp_path, test, width):
    plan = planned(tmp_path, test, preset="smoke")
    lines = plan_lines(plan, width)

    assert max(map(len, lines)) <= width
    assert all(line.startswith("plan   ") if n == 0 else line.startswith("       ") for n, line in enumerate(lines))
    rules = {one.name.partition(" (")[0] for one in plan.criteria if one.gating}
    assert all(any(rule in line for line in lines) for rule in rules)
