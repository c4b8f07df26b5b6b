from __future__ import annotations

import numpy as np
import pytest

from made import collected, run_of
from streamgauge import compare, stats
from streamgauge.columns import Columns
from streamgauge.sample import Sample
from streamgauge.summary import Scope, scope_of


def seen(samples: list[Sample], targets: list[str] | None = None) -> tuple[Columns, Scope]:
    columns = collected(samples).columns()
    return columns, scope_of(columns, targets=targets)


def arm(name: str, median_ms: float, n: int = 400, sigma: float = 0.3, seed: int = 1) -> list[Sample]:
    return run_of(np.random.default_rng(seed).lognormal(np.log(median_ms), sigma, n), target=name)


def test_every_target_is_compared_with_the_fastest():
    samples = [*arm("slow", 900), *arm("fast", 300), *arm("middle", 500)]

    found = compare.comparisons(*seen(samples))

    assert [(one.a, one.b, one.stat) for one in found] == [
        ("slow", "fast", "p50"),
        ("slow", "fast", "p95"),
        ("middle", "fast", "p50"),
        ("middle", "fast", "p95"),
    ]
    assert all(one.kind == "targets" and one.metric == "ttft_ms" for one in found)


def test_what_an_app_adds_to_its_control_is_told_with_its_interval():
    samples = [*run_of(np.arange(690, 710, 0.05), target="app"), *run_of(np.arange(300, 320, 0.05), target="provider")]

    median, _ = compare.comparisons(*seen(samples, ["app"]), controls={"app": "provider"})

    assert median.kind == "control"
    assert median.difference == pytest.approx(390, abs=0.1)
    # Two medians of 400 values spread evenly over 20 ms: sd 0.5 ms each, so 390 -+ 1.645 * 0.71.
    assert median.low == pytest.approx(388.84, abs=0.25)
    assert median.high == pytest.approx(391.16, abs=0.25)
    assert median.sentence == "app adds 390 ms at the median over provider [389 to 391]"
    assert median.metric == "ttft_service_ms"


def test_what_is_faster_is_so_by_an_interval_of_the_same_sign():
    """The fastest at p95 need not be at the median: `89 ms faster [-98 to -73]` would be read twice."""
    steady, wide = run_of(np.full(400, 400.0), target="steady"), arm("wide", 300, sigma=0.6)

    median, p95 = compare.comparisons(*seen([*steady, *wide]))

    assert (median.a, median.b) == ("wide", "steady")
    assert median.difference is not None
    assert median.difference < 0 < p95.difference
    said, _, interval = median.sentence.partition(" [")
    assert " ms faster than steady at the median" in said
    low, high = (float(part) for part in interval.rstrip("]").split(" to "))
    assert 0 < low < -median.difference < high


def test_two_targets_that_are_the_same_cannot_be_told_apart():
    samples = [*arm("a", 500, seed=1), *arm("b", 500, seed=2)]

    found = compare.comparisons(*seen(samples))

    assert all(one.low < 0 < one.high for one in found)  # type: ignore[operator]
    assert all(one.sentence.startswith("b and a cannot be told apart at ") for one in found) or all(
        one.sentence.startswith("a and b cannot be told apart at ") for one in found
    )


@pytest.mark.parametrize("kind", ["targets", "control"])
@pytest.mark.parametrize(
    ("difference", "low", "high", "settled"),
    [
        (5.7, 1.2, 9.0, True),
        (5.7, 0.04, 9.0, True),
        (5.7, -1.0, 9.0, False),
        (5.7, -0.04, 9.0, False),
        (5.7, 1.2, None, True),
        (5.7, None, 9.0, False),
        (-5.7, -9.0, -1.2, True),
        (-5.7, -9.0, 1.0, False),
        (0.0, 0.0, 0.0, False),
    ],
)
def test_a_difference_is_stated_where_its_interval_excludes_0_and_only_there(kind, difference, low, high, settled):
    said = compare._sentence(kind, "a", "b", "p95", difference, stats.Bounds(low, high))

    assert ("cannot be told apart" in said) is not settled
    assert (" is 5.7 ms " in said or " adds 5.7 ms " in said or " takes off 5.7 ms " in said) is settled
    assert "[0.0 to" not in said or not settled, "a bound that is not 0 does not read as 0"


def test_arms_that_did_not_reach_the_quantile_have_no_difference():
    samples = [*run_of([100.0] * 80 + [None] * 20, target="broken"), *arm("fine", 300, n=100)]

    found = compare.compare(*seen(samples), "targets", "broken", "fine", "ttft_ms", "p95")

    assert (found.value_a, found.difference, found.low, found.high) == (None, None, None, None)
    assert "cannot be compared" in found.sentence


def test_the_fastest_is_one_that_reached_its_p95():
    samples = [*run_of([10.0] * 90 + [None] * 10, target="broken"), *arm("fine", 300, n=100)]

    assert compare.fastest(*seen(samples)) == "fine"


def test_few_requests_give_a_difference_and_no_interval_on_the_open_side():
    found = compare.compare(*seen([*arm("a", 500, n=30), *arm("b", 300, n=30)]), "targets", "a", "b", "ttft_ms", "p95")

    assert found.difference is not None
    assert (found.low, found.high) == (None, None)
    assert "too few to bound it" in found.sentence


def test_the_same_samples_and_seed_give_the_same_interval():
    samples = [*arm("a", 500), *arm("b", 300)]

    assert compare.comparisons(*seen(samples), seed=4) == compare.comparisons(*seen(samples), seed=4)


def test_a_target_alone_is_compared_with_nothing():
    assert compare.comparisons(*seen(arm("only", 300))) == []
    assert compare.comparisons(*seen([])) == []


def test_a_control_that_was_never_asked_is_left_out():
    assert compare.comparisons(*seen(arm("app", 300)), controls={"app": "gone"}) == []
