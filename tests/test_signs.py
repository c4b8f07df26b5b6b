"""Signs within a run: a steady service does not alarm, a drift is told, and positive signs are no findings."""

from __future__ import annotations

import re

import numpy as np
import pytest
from bench.signs import failed, times, warns

from made import START, collected, made
from streamgauge.findings import RunFacts, find
from streamgauge.findings.signs import Trend, drift, trends
from streamgauge.sample import Outcome, Sample
from streamgauge.summary import scope_of


def facts(samples: list[Sample], *, steady: bool = True) -> RunFacts:
    columns = collected(samples).columns()
    return RunFacts(columns, scope_of(columns), START, steady=steady)


def told(samples: list[Sample], metric: str, *, steady: bool = True) -> Trend:
    return next(one for one in trends(facts(samples, steady=steady)) if one.metric == metric)


def going(first_ms: float, last_ms: float, n: int = 240) -> list[Sample]:
    """Requests whose first token takes longer, or less long, from one to the next, by chance besides."""
    rng = np.random.default_rng(7)
    values = np.linspace(first_ms, last_ms, n) * np.exp(0.2 * rng.normal(size=n))
    prompts = ("short", "medium", "long")
    return [made(float(x) * (1 + k % 3), n=k, prompt=prompts[k % 3]) for k, x in enumerate(values)]


def test_steady_services_alarm_in_at_most_five_of_a_hundred_runs() -> None:
    runs = 100  # the whole of it: python -m bench signs
    assert sum(warns(np.random.default_rng(seed), 400) for seed in range(runs)) <= 0.05 * runs


def test_a_rise_is_a_warning_with_its_size_whatever_the_prompts_are() -> None:
    found = told(going(300, 500), "ttft_ms")
    assert (found.way, found.sign) == ("rising", "warning")
    assert found.change is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < 2 / 3 < found.high
    assert abs(found.change - 2 / 3) < 0.25
    names = [one.name for one in find(facts(going(300, 500))).findings]
    assert names == ["ttft_rising"]


def test_a_rise_to_many_times_is_told_in_times_and_its_bounds_too() -> None:
    words = told(going(100, 800), "ttft_ms").words
    found = re.fullmatch(r"TTFT rising: to ([\d.]+) times what it was over the run \[([\d.]+) to ([\d.]+)\]", words)
    assert found is not None, words
    times, low, high = map(float, found.groups())
    assert low < times < high
    assert 4 < times < 12


def test_a_fall_is_a_positive_sign_and_no_finding() -> None:
    found = told(going(500, 300), "ttft_ms")
    assert (found.way, found.sign) == ("falling", "positive")
    assert find(facts(going(500, 300))).findings == []


def test_errors_that_become_more_are_a_warning_and_a_bout_is_none() -> None:
    rng = np.random.default_rng(3)

    def failing(share: np.ndarray) -> list[Sample]:
        bad = rng.random(len(share)) < share
        return [made(n=k, outcome=Outcome.HTTP_ERROR if x else Outcome.OK, http_status=404) for k, x in enumerate(bad)]

    rising = told(failing(np.linspace(0, 0.3, 400)), "error_rate")
    assert (rising.way, rising.sign) == ("rising", "warning")
    bout = np.zeros(400)
    bout[300:330] = 1
    assert told(failing(bout), "error_rate").sign is None


def test_a_pace_that_falls_is_a_warning() -> None:
    slowing = [made(n=k, writes_ms=900 + 5 * k) for k in range(200)]
    found = told(slowing, "output_rate")
    assert (found.way, found.sign) == ("falling", "warning")


@pytest.mark.parametrize(
    ("samples", "steady"),
    [(going(300, 900, 60), True), (going(300, 900), False)],
    ids=["too few", "the load was to change"],
)
def test_where_nothing_can_be_told_nothing_is(samples: list[Sample], steady: bool) -> None:
    found = told(samples, "ttft_ms", steady=steady)
    assert (found.way, found.sign, found.change) == (None, None, None)
    assert "not looked at" in found.words


def test_a_drift_needs_more_than_chance() -> None:
    at = np.linspace(0, 100, 400)
    assert drift(at, np.full(400, 3.0), shares=False).way == "steady"
    rng = np.random.default_rng(1)
    assert drift(at, times(rng, 400, 0.5), shares=False).way == "steady"
    assert drift(at, failed(rng, 400), shares=True).way == "steady"
    assert drift(at, times(rng, 400, 0.0) * np.linspace(1, 1.1, 400), shares=False).way == "steady", "nothing to act on"
