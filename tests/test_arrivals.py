"""Arrivals are pure: their tests are tables of numbers, and scipy's integrals and distributions are the truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats as scipy_stats

from streamgauge.arrivals import Rate, Trace, most_within, ramp, seconds_for, spike

S = 1_000_000_000
RISING = ramp(1.0, 100.0, 60 * S, 9)
FALLING = ramp(80.0, 0.0, 20 * S, 9)
SPIKE = spike(5.0, 100.0, 30 * S, 10 * S, 9)
FROM_NOTHING = spike(0.0, 50.0, 2 * S, 3 * S, 9)
SHAPES = {"constant": Rate(50.0, 9), "rising": RISING, "falling": FALLING, "spike": SPIKE, "nothing": FROM_NOTHING}


def rate_at(name: str, t: float) -> float:
    """The rate at `t` s, written down once more and in other words."""
    rates = {
        "constant": 50.0,
        "rising": min(1 + 99 * t / 60, 100.0),
        "falling": max(80 - 4 * t, 0.0),
        "spike": 100.0 if 30 <= t < 40 else 5.0,
        "nothing": 50.0 if 2 <= t < 5 else 0.0,
    }
    return rates[name]


def integral(name: str, until_s: float) -> float:
    """By scipy, from one bend to the next."""
    bends = [0.0, *(b for b in (2, 5, 20, 30, 40, 60) if b < until_s), until_s]
    return sum(integrate.quad(lambda t: rate_at(name, t), a, b)[0] for a, b in itertools.pairwise(bends))


def due(load: Rate | Trace, until_s: float, seed: int = 1) -> list[int]:
    return list(itertools.takewhile(lambda at: at < until_s * S, load.offsets(seed)))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("until_s", [0.5, 2.5, 10.0, 31.0, 40.0, 75.0])
def test_as_many_arrivals_are_expected_as_the_integral_of_the_rate(name: str, until_s: float) -> None:
    wanted = integral(name, until_s)
    assert SHAPES[name].expected(round(until_s * S)) == pytest.approx(wanted, abs=1e-6)
    assert len(due(SHAPES[name], until_s)) == pytest.approx(wanted, abs=1), "even arrivals are never one off"


@pytest.mark.parametrize(
    ("load", "first_s"),
    [
        (Rate(4.0, 9), [0.0, 0.25, 0.5, 0.75]),
        (ramp(0.0, 8.0, 4 * S, 9), [0.0, 1.0, math.sqrt(2), math.sqrt(3)]),  # t^2 is its integral
        (ramp(2.0, 0.0, 4 * S, 9), [0.0, 4 - math.sqrt(12), 4 - math.sqrt(8), 2.0]),
        (FROM_NOTHING, [2.0, 2.02, 2.04, 2.06]),
        (spike(1.0, 10.0, 2 * S, S, 9), [0.0, 1.0, 2.0, 2.1]),
    ],
    ids=["constant", "rising from 0", "falling to 0", "a spike out of nothing", "a spike"],
)
def test_each_arrival_is_due_where_the_integral_passes_its_number(load: Rate, first_s: list[float]) -> None:
    found = [at / S for at in itertools.islice(load.offsets(1), 4)]
    assert found == pytest.approx(first_s, abs=1e-8)


def test_constant_arrivals_keep_their_rate_without_drift() -> None:
    offsets = list(itertools.islice(Rate(300.0, cap=10).offsets(1), 3_001))
    assert offsets[3_000] == 10 * S
    assert max(abs(b - a - S / 300) for a, b in itertools.pairwise(offsets)) <= 1


def test_a_rate_that_ends_at_nothing_ends_its_arrivals() -> None:
    assert len(list(FROM_NOTHING.offsets(1))) == 150
    assert len(list(FALLING.offsets(1))) == 800
    assert (FROM_NOTHING.total, FALLING.total, RISING.total) == (150, 800, math.inf)


@pytest.mark.parametrize("name", SHAPES)
def test_poisson_arrivals_are_an_inhomogeneous_poisson_process(name: str) -> None:
    """Given their number, they are independent draws from the rate's own distribution; the number is Poisson."""
    load, until_s = SHAPES[name], 50.0
    poisson = Rate(load.per_s, load.cap, "poisson", load.course)
    total = integral(name, until_s)
    grid = np.linspace(0, until_s, 2_001)
    share = np.concatenate(([0], np.cumsum([rate_at(name, t + until_s / 4_000) for t in grid[:-1]]) * until_s / 2_000))
    times = [at / S for at in due(poisson, until_s, seed=7)]
    assert scipy_stats.kstest(times, lambda t: np.interp(t, grid, share / share[-1])).pvalue > 0.001
    counts = [len(due(poisson, until_s, seed)) for seed in range(40)]
    spread = scipy_stats.poisson(total * 40)
    assert spread.cdf(sum(counts)) == pytest.approx(0.5, abs=0.4995)
    dispersion = sum((n - total) ** 2 for n in counts) / total
    assert 0.0005 < scipy_stats.chi2(40).cdf(dispersion) < 0.9995


def test_poisson_gaps_in_the_time_of_the_integral_are_exponential() -> None:
    load = ramp(10.0, 200.0, 30 * S, 9, "poisson")
    sums = [load.expected(at) for at in due(load, 30.0, seed=3)]
    assert scipy_stats.kstest(np.diff([0.0, *sums]), "expon").pvalue > 0.001


def test_a_seed_gives_the_same_arrivals_again_and_another_one_others() -> None:
    load = ramp(10.0, 200.0, 30 * S, 9, "poisson")
    assert due(load, 5.0, 3) == due(load, 5.0, 3) != due(load, 5.0, 4)


@given(
    st.floats(0, 500), st.floats(0, 500), st.floats(0.1, 100), st.sampled_from(["constant", "poisson"]),
    st.integers(0, 99),
)  # fmt: skip
def test_arrivals_never_go_back_in_time_and_are_where_the_integral_says(
    start: float, end: float, over_s: float, spacing: str, seed: int
) -> None:
    load = ramp(start, end, round(over_s * S), 9, spacing)  # type: ignore[arg-type] # one of its two words
    times = list(itertools.islice(load.offsets(seed), 200))
    assert times == sorted(times)
    if spacing == "constant":
        assert [load.expected(at) for at in times] == pytest.approx(list(range(len(times))), abs=1e-4)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60), st.integers(1, 10**6))
def test_the_densest_window_of_a_trace_is_found(times: list[int], width: int) -> None:
    trace = Trace(tuple(sorted(times)), 9, "t")
    assert most_within(trace, width) == max(sum(at <= one < at + width for one in times) for at in times)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("width_s", [0.5, 4.0, 15.0])
def test_the_densest_window_of_a_rate_is_found(name: str, width_s: float) -> None:
    load, width = SHAPES[name], round(width_s * S)
    tried = [load.expected(round(t * S)) - load.expected(round(t * S) - width) for t in np.linspace(0, 80, 1_601)]
    assert most_within(load, width, 80 * S) == pytest.approx(max(tried), rel=1e-6)


@pytest.mark.parametrize(("load", "n", "seconds"), [
    (Rate(50.0, 9), 100, 2.0), (RISING, 3030, 60.0), (RISING, 3130, 61.0), (FROM_NOTHING, 10_000, 5.0),
    (Trace((0, S, 5 * S), 9, "t"), 2, 1.0), (Trace((0, S, 5 * S), 9, "t"), 9, 5.0),
])  # fmt: skip
def test_how_long_so_many_arrivals_take(load: Rate | Trace, n: int, seconds: float) -> None:
    assert seconds_for(load, n) == pytest.approx(seconds)


def test_a_share_of_the_arrivals_is_evenly_taken() -> None:
    half = Trace(tuple(range(0, 100, 10)), 9, "t").scaled(0.5)
    assert half.times == (10, 30, 50, 70, 90)
    assert RISING.scaled(0.5).expected(60 * S) == pytest.approx(RISING.expected(60 * S) / 2)


@pytest.mark.parametrize(("load", "words"), [
    (Rate(50.0, 9), "50 requests/s"),
    (Rate(2.5, 9, "poisson"), "2.5 requests/s, poisson"),
    (RISING, "rising from 1 to 100 requests/s over 60 s"),
    (FALLING, "falling from 80 to 0 requests/s over 20 s"),
    (SPIKE, "5 requests/s with a spike to 100 requests/s after 30 s for 10 s"),
    (Trace((0, S, 90 * S), 9, "day.csv"), "3 recorded arrivals over 90 s (day.csv)"),
])  # fmt: skip
def test_it_is_said_in_words(load: Rate | Trace, words: str) -> None:
    assert load.words == words
