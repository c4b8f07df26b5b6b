"""Criteria: what a text means, what is refused and with which words, defaults, scopes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.metrics import METRICS
from streamgauge.spec.criteria import criterion, default_criteria, expand, parse_rule
from streamgauge.spec.presets import PRESETS, TESTS


@pytest.mark.parametrize(
    ("text", "metric", "stat", "op", "limit", "unit"),
    [
        ("ttft_ms.p95 < 1000", "ttft_ms", "p95", "<", 1000.0, "ms"),
        ("  ttft_ms.p99.9<=1.5 s ", "ttft_ms", "p99.9", "<=", 1500.0, "ms"),
        ("ttft_ms.p95 < 800ms", "ttft_ms", "p95", "<", 800.0, "ms"),
        ("e2e_ms.max < 2min", "e2e_ms", "max", "<", 120_000.0, "ms"),
        ("itl_ms.p50 < 1_000", "itl_ms", "p50", "<", 1000.0, "ms"),
        ("output_rate.p50 > 10", "output_rate", "p50", ">", 10.0, "tok/s"),
        ("output_rate.mean >= 10 tok/s", "output_rate", "mean", ">=", 10.0, "tok/s"),
        ("error_rate < 0.5%", "error_rate", None, "<", 0.005, ""),
        ("error_rate < 0.005", "error_rate", None, "<", 0.005, ""),
        ("ttft_ms.cv < 50%", "ttft_ms", "cv", "<", 0.5, ""),
        ("ttft_ms.cv < 0.5", "ttft_ms", "cv", "<", 0.5, ""),
        ("drops == 0", "drops", None, "==", 0.0, ""),
        ("concurrency_held >= 100", "concurrency_held", None, ">=", 100.0, "streams"),
        ("ttft_degradation <= 1.5x", "ttft_degradation", None, "<=", 1.5, "x"),
    ],
)
def test_a_criterion_means_what_it_says(
    text: str, metric: str, stat: str | None, op: str, limit: float, unit: str
) -> None:
    rule = parse_rule(text)
    assert (rule.metric, rule.stat, rule.op, rule.limit, rule.unit) == (metric, stat, op, limit, unit)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tft_ms.p95 < 1000", 'did you mean "ttft_ms"'),
        ("latency.p95 < 1000", "Metrics: ttft_ms"),
        ("ttft_ms < 1000", "needs a stat, as in ttft_ms.p95"),
        ("ttft_ms.p100 < 1", "not between p0 and p100"),
        ("ttft_ms.p0 < 1", "not between p0 and p100"),
        ("ttft_ms.avg < 1", 'no stat "avg"'),
        ("ttft_ms.men < 1", 'did you mean "mean"'),
        ("error_rate.p95 < 1%", "takes no"),
        ("drops.max == 0", "write drops alone"),
        ("ttft_ms.p95 = 1000", '"=" is no comparison'),
        ("ttft_ms.p95 != 1000", '"!=" is no comparison'),
        ("ttft_ms.p95 =< 1000", '"=<" is no comparison'),
        ("ttft_ms.p95 < nan", "not a finite number"),
        ("ttft_ms.p95 < inf", "not a finite number"),
        ("ttft_ms.p95 < 1e999", "not a finite number"),
        ("ttft_ms.p95 < -1", "negative"),
        ("ttft_ms.p95 < -0", "negative"),
        ("ttft_ms.p95 < fast", "not a finite number"),
        ("ttft_ms.p95 < 5%", 'unit "%" does not fit'),
        ("output_rate.p50 > 10 ms", 'unit "ms" does not fit'),
        ("error_rate < 0.5", 'means 50 %; write "0.5%" or "50%"'),
        ("error_rate < 2", "at most 1"),
        ("error_rate < 120%", "at most 1"),
        ("ttft_ms.cv < 50", 'write "50%"'),
        ("", "is not a criterion"),
        ("ttft_ms.p95", "is not a criterion"),
        ("ttft_ms.p95 <", "is not a criterion"),
        ("1000 > ttft_ms.p95", "is not a criterion"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_next_step(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_rule(text)
    assert words in str(caught.value)
    assert text.strip() in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_criterion_or_a_mistake_and_never_a_crash(text: str) -> None:
    with contextlib.suppress(ValueError):
        rule = parse_rule(text)
        assert rule.metric in METRICS
        assert rule.limit >= 0


def strategy() -> dict[str, set[str]]:
    """DESIGN 6's table of what is judged by default, copied by hand."""
    return {
        "ttft": {
            "ttft_ms.p95 < 1000", "ttft_ms.p99 < 2000", "ttft_ms.p50 < 500", "output_rate.p50 > 10",
            "ttft_ms.cv < 50%", "error_rate < 0.5%",
        },
        "concurrent": {"concurrency_held >= 100", "error_rate < 0.5%", "drops == 0", "ttft_degradation <= 1.5"},
        "endurance": {
            "streams_complete >= 100%", "drops == 0", "timeouts == 0", "pace_kept > 80%",
            "memory_growth_mb_per_h < 100", "stalls == 0",
        },
        "memory": {"memory_growth_mb_per_h < 100", "memory_cleanup > 50%", "memory_unbounded == 0"},
        "stress": {
            "capacity >= 100", "ttft_ms.p95 < 1000", "level_error_rate < 5%", "crashes == 0", "recovery_s < 30",
        },
    }  # fmt: skip


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_default_criteria_are_the_strategys(test: str, preset: str) -> None:
    found = default_criteria(test, preset, prompts=("short", "medium", "long"), level=100, open_loop=False)
    assert {one.text for one in found} == strategy()[test]
    assert {one.text for one in found if one.advisory} == {"ttft_degradation <= 1.5", "stalls == 0"} & strategy()[test]


def test_variation_may_gate_only_at_full() -> None:
    for preset in PRESETS:
        found = default_criteria("ttft", preset, prompts=("short",), level=4, open_loop=False)
        assert {one.text for one in found if not one.may_gate} == (set() if preset == "full" else {"ttft_ms.cv < 50%"})


def test_without_short_prompts_nothing_is_asked_of_them() -> None:
    found = default_criteria("ttft", "pr", prompts=("long",), level=4, open_loop=False)
    assert all(one.prompt != "short" for one in found)


def test_an_open_loop_holds_no_level() -> None:
    found = default_criteria("concurrent", "pr", prompts=("short",), level=100, open_loop=True)
    assert all(one.metric != "concurrency_held" for one in found)


def test_each_is_written_out_and_all_is_pooled() -> None:
    found = expand(
        [criterion("ttft_ms.p95 < 1000"), criterion("ttft_ms.cv < 50%", prompt="each"), criterion("error_rate < 1%")],
        targets=("a", "b"),
        prompts=("short", "long"),
    )
    assert [(one.text, one.target, one.prompt) for one in found] == [
        ("ttft_ms.p95 < 1000", "a", None),
        ("ttft_ms.p95 < 1000", "b", None),
        ("ttft_ms.cv < 50%", "a", "short"),
        ("ttft_ms.cv < 50%", "a", "long"),
        ("ttft_ms.cv < 50%", "b", "short"),
        ("ttft_ms.cv < 50%", "b", "long"),
        ("error_rate < 1%", None, None),
    ]
    assert len({one.name for one in found}) == len(found)
    assert found[3].name == "ttft_ms.cv < 50% (a, long)"


def test_a_name_says_no_scope_where_there_is_no_choice() -> None:
    found = expand([criterion("ttft_ms.p95 < 1000", phase="stress")], targets=("a",), prompts=("short",))
    assert [(one.name, one.target) for one in found] == [("ttft_ms.p95 < 1000 (stress)", "a")]
