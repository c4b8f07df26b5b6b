"""Capacity from level tables: worked by hand, against queueing theory, and the stated coverage over known truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from bench.levels import CASES, CROSSED, DEFAULT, LIMITS, covered, erlang_p95, one
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc  # type: ignore[import-untyped, unused-ignore]

from streamgauge import capacity as module
from streamgauge.capacity import Capacity, Level, Limit, between, capacity, isotonic, next_level, rises

TTFT = Limit("ttft_ms.p95 < 1000", "ttft", 1_000.0)
ERRORS = Limit("error_rate < 0.05", "errors", 0.05)


def level(at: float, p95: float, *, n: int = 100, errors: int = 0) -> Level:
    """A level whose p95 by nearest rank is exactly `p95` (but for failed requests, which never gave a token)."""
    values = np.linspace(0.5, 1.0, n) * p95 / np.linspace(0.5, 1.0, n)[math.ceil(0.95 * n) - 1]
    if errors:
        values[-errors:] = np.inf
    return Level(at, values, n, errors)


def found(levels: list[Level], limits: tuple[Limit, ...] = (TTFT, ERRORS), **more: object) -> Capacity:
    result = capacity(levels, limits, np.random.default_rng(1), **more)  # type: ignore[arg-type]
    assert result is not None
    return result


def test_the_crossing_lies_on_a_straight_line_of_the_logarithm():
    """500 ms at 50 and 2,000 ms at 60: log 1,000 is half way between them."""
    result = found([level(10, 300), level(50, 500), level(60, 2_000)], (TTFT,))

    assert result.crossings[0].at == pytest.approx(55.0)
    assert result.value in (54, 55)
    assert result.tested == 50
    assert result.limited_by == TTFT.name
    assert not result.at_least
    assert result.low is not None
    assert result.high is not None
    assert 10 <= result.low <= 55 <= result.high <= 60


def test_a_slow_level_below_a_quick_one_is_pooled_with_it():
    """By hand: log ratios at 30 and 40 are log 1.25 and log 0.64, of equal n: their mean is log sqrt(0.8) at both."""
    result = found([level(10, 400), level(30, 1_250), level(40, 640), level(60, 3_000)], (TTFT,))

    assert result.crossings[0].fitted == pytest.approx([400, 1_000 * math.sqrt(0.8), 1_000 * math.sqrt(0.8), 3_000])
    assert result.tested == 40


def test_failures_may_set_in_anywhere_between_two_levels():
    """None of 400 at 50, half of 400 at 100, and nobody looked between: a jump is as likely at 96 as at 54."""
    result = found([level(50, 300, n=400), level(100, 300, n=400, errors=200)], draws=1_999)

    assert result.low == pytest.approx(50 + 0.09 * 50, abs=2)
    assert result.high == pytest.approx(100 - 0.04 * 50, abs=2)


def test_a_wait_that_still_rises_is_told_from_one_that_settles_and_from_noise():
    """Of 400 requests each waits 1 ms longer than the one before it; or the wait settles after the first 60."""
    rng = np.random.default_rng(3)
    noise = 200 * np.exp(0.2 * rng.standard_normal(400))
    place = np.arange(400.0)

    assert rises(noise + 1.0 * place)
    assert not rises(noise)
    assert not rises(noise + 300 * (1 - np.exp(-place / 20)))
    assert not rises(noise[:40] + 5.0 * place[:40]), "too few to tell"
    assert not rises(np.full(400, np.inf))
    assert np.mean([rises(rng.exponential(1, 100)) for _ in range(100)]) <= 0.05


def test_a_level_that_still_rises_is_neither_within_nor_outside():
    """What it carries for longer is not known: the capacity is not above it, and the interval reaches both sides."""
    rising = replace(level(60, 600), rising=True)
    result = found([level(20, 300), level(40, 300), rising, level(80, 3_000)], (TTFT,), whole=False)

    assert result.value == 60
    assert result.tested == 40
    assert result.low is not None
    assert result.high is not None
    assert result.low < 55
    assert 60 < result.high <= 80
    assert next_level([level(20, 300), level(40, 300), rising], (TTFT,), whole=False) == 50


def test_errors_limit_where_answers_stay_quick():
    result = found([level(50, 300), level(75, 300), level(100, 300, errors=40)])

    assert result.limited_by in (ERRORS.name, TTFT.name)  # 40 of 100 never gave a token either
    assert result.tested == 75
    assert result.value is not None
    assert 75 <= result.value < 100


def test_where_all_levels_pass_the_capacity_is_at_least_the_highest():
    result = found([level(at, 200) for at in DEFAULT])

    assert result.value == 200
    assert result.at_least
    assert result.high is None
    assert result.low is not None
    assert result.low >= 100
    assert result.limited_by is None


def test_where_none_passes_there_is_no_capacity_and_it_is_never_zero():
    result = found([level(at, 3_000) for at in DEFAULT])

    assert result.value is None
    assert result.low is None
    assert result.high == 1.0
    assert result.tested is None


def test_a_level_of_nothing_but_failures_is_far_outside_and_breaks_nothing():
    dead = Level(100, np.full(50, np.inf), 50, 50)
    result = found([level(50, 300), level(75, 310), dead])

    assert result.tested == 75
    assert result.high is not None
    assert 75 <= result.high <= 100
    assert math.isinf(result.crossings[0].fitted[-1])


def test_nothing_seen_is_nothing_said():
    assert capacity([], LIMITS, np.random.default_rng(0)) is None
    assert capacity([Level(1, np.empty(0), 0, 0)], LIMITS, np.random.default_rng(0)) is None
    assert capacity([level(1, 100)], (), np.random.default_rng(0)) is None


def test_few_requests_a_level_leave_the_interval_wide():
    few = found([level(at, 100 + 12 * at, n=12) for at in DEFAULT])
    many = found([level(at, 100 + 12 * at, n=800) for at in DEFAULT])

    assert (few.high or 250) - (few.low or 0) > 1.3 * ((many.high or 250) - (many.low or 0))


def test_a_level_that_comes_twice_counts_as_one_of_both():
    twice = found([level(50, 500), level(60, 1_600), level(60, 2_500)], (TTFT,))

    assert twice.crossings[0].levels == (50, 60)
    assert twice.crossings[0].fitted[1] == pytest.approx(2_000)


def test_requests_a_second_need_not_come_whole():
    result = found([level(10, 500), level(11, 2_500)], (TTFT,), whole=False)

    assert result.value == pytest.approx(10 + math.log(2) / math.log(5))


def test_the_random_curve_between_two_levels_is_a_dirichlet_process():
    """Its own distribution, from scipy: P(not passed by w) = I_h(a w, a (1 - w))."""
    chance = np.random.default_rng(4).random(20_000)
    passed = between(np.full(20_000, 0.3), chance, 2.0)

    for w in (0.1, 0.3, 0.6, 0.9):
        assert (passed > w).mean() == pytest.approx(betainc(2 * w, 2 * (1 - w), 0.3), abs=0.015)
    assert np.median(between(np.full(2_000, 0.3), chance[:2_000], 1e4)) == pytest.approx(0.3, abs=0.01)


def test_the_isotonic_fit_is_the_nearest_rising_line():
    """Pool by hand: 3, 1 -> 2, 2; weights 1 and 3 -> 1.5."""
    levels, fit = isotonic(np.array([1.0, 2, 3]), np.array([[3.0, 1, 5]]), np.ones(3))
    assert fit.tolist() == [[2, 2, 5]]
    assert levels.tolist() == [1, 2, 3]
    _, fit = isotonic(np.array([1.0, 2]), np.array([[3.0, 1]]), np.array([1.0, 3]))
    assert fit.tolist() == [[1.5, 1.5]]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 300),
            st.lists(st.one_of(st.floats(0, 1e6), st.just(math.inf)), min_size=1, max_size=30),
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
def test_any_table_gives_an_interval_that_holds_its_value(rows, whole):
    levels = [
        Level(at, np.array(values), len(values), sum(math.isinf(value) for value in values)) for at, values in rows
    ]
    result = capacity(levels, LIMITS, np.random.default_rng(0), draws=39, whole=whole)

    assert result is not None
    least, most = min(at for at, _ in rows), max(at for at, _ in rows)
    if result.value is not None:
        assert least <= result.value <= most
        assert result.low is None or result.low <= result.value
        assert result.high is None or result.high >= result.value
    else:
        assert result.low is None
    assert result.at_least <= (result.high is None)


def test_the_true_capacity_of_an_m_m_c_queue_is_found():
    """20 servers of 2 a second each; the rate at which p95 of the wait reaches 0.9 s is known in closed form."""
    rng = np.random.default_rng(11)
    rates = [20.0, 30, 34, 36, 37, 37.5, 38, 38.5, 39, 39.5]
    truth = next(rate for rate in np.arange(30, 40, 0.001) if erlang_p95(rate, 2.0, 20) > 0.9)
    levels = []
    for rate in rates:
        waits = np.where(rng.random(400) < _waits(rate, 2.0, 20), rng.exponential(1 / (40 - rate), 400), 0.0)
        levels.append(Level(rate, 100 + 1e3 * waits, 400, 0))
    result = capacity(levels, (TTFT,), rng, whole=False, drift=0.0)

    assert result is not None
    assert result.low is not None
    assert result.high is not None
    assert result.low <= truth <= result.high
    assert result.high - result.low < 3


def _waits(rate: float, mu: float, c: int) -> float:
    """Erlang C, straight from its definition."""
    load = rate / mu
    top = load**c / math.factorial(c) * c / (c - load)
    return top / (sum(load**k / math.factorial(k) for k in range(c)) + top)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """A small share of what `python -m bench levels` does over 4,000 tables; three standard deviations are allowed."""
    tables, cells = 35, []
    for number, case in enumerate(CASES[:CROSSED]):
        for i in range(tables):
            _, truth, told = one(case, ("calibrated bootstrap",), 99, 5_000_000 + 100_000 * number + i)
            cells.append((truth, told["calibrated bootstrap"]))

    noise = 3 * math.sqrt(0.9 * 0.1 / len(cells))
    assert 0.88 - noise <= covered(cells) <= 0.95 + noise


def test_the_constants_are_those_that_were_measured():
    """Changing one asks for a new run of `python -m bench levels` (docs/decisions/018)."""
    shipped = (module.DRIFT, module.CAUTION, module.BRIDGE, module.CLIP, module.NEAR, module.TAIL,
               module.FEW, module.LOW_SHARE, module.HIGH_SHARE)  # fmt: skip
    assert shipped == (0.08, 1.2, 3.0, math.log(4), math.log(2), 0.1, 5.0, 2.2, 0.9)


def test_refusals_limit_by_errors_although_they_are_no_first_tokens_either():
    """None of the refused waited, and of the others none was slow: naming TTFT would send its reader the wrong way."""
    refusing = level(75, 300.0, errors=20)
    lost = refusing.ttft_ms.copy()
    lost[-20:] = np.inf
    table = [level(10, 300.0), level(50, 300.0), Level(75, lost, 100, 20)]
    assert found(table).limited_by == ERRORS.name
    assert found([level(10, 300.0), level(50, 300.0), level(75, 3_000.0, errors=0)]).limited_by == TTFT.name
