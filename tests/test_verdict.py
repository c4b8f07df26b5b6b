"""Every rule by which a run passes, fails, stays open or is void; truth is counted by hand or by scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom, norm  # type: ignore[import-untyped, unused-ignore]

from made import START, collected, made, run_of
from streamgauge import verdict
from streamgauge.errors import Exit
from streamgauge.sample import Outcome, Sample
from streamgauge.summary import Phase, scope_of
from streamgauge.verdict import Criterion, Judged, decide, gates, judge


def criterion(text: str, **facts: object) -> Criterion:
    """`ttft_ms.p95 < 1000` as a Criterion."""
    left, op, limit = text.split()
    metric, _, stat = left.partition(".")
    unit = "ms" if metric.endswith("_ms") and stat != "cv" else ""
    return Criterion(name=text, metric=metric, stat=stat or None, op=op, limit=float(limit), unit=unit, **facts)  # type: ignore[arg-type]


def judged(text: str, samples: Sequence[Sample], **how: object) -> Judged:
    facts = {key: how.pop(key) for key in ("target", "prompt", "phase", "advisory", "gating") if key in how}
    phases = how.pop("phases", ())
    targets = how.pop("targets", None)
    columns = collected(samples).columns()
    scope = scope_of(columns, phases=phases, targets=targets)  # type: ignore[arg-type]
    return judge([criterion(text, **facts)], columns, scope, **how)[0]  # type: ignore[arg-type]


def word(text: str, samples: Sequence[Sample], **how: object) -> str:
    return judged(text, samples, **how).verdict


def shuffled(ttfts_ms: list[float]) -> list[Sample]:
    """Requests of these TTFTs in an order that depends on nothing."""
    return run_of(np.random.default_rng(1).permutation(ttfts_ms))


P95 = "ttft_ms.p95 < 1000"


# PASS, FAIL, INCONCLUSIVE


def test_58_quick_requests_cannot_show_p95_and_59_can():
    open_one = judged(P95, run_of([100.0] * 58))

    assert (open_one.verdict, open_one.high, open_one.needs) == ("inconclusive", None, 1)
    assert word(P95, run_of([100.0] * 59)) == "pass"


@pytest.mark.parametrize(("n", "word_"), [(298, "inconclusive"), (299, "pass")])
def test_p99_needs_299(n, word_):
    """Peers' mistake 11: p99 claimed of 50."""
    assert word("ttft_ms.p99 < 2000", run_of([100.0] * n)) == word_


@pytest.mark.parametrize(("n", "word_"), [(597, "inconclusive"), (598, "pass")])
def test_an_error_rate_below_half_a_percent_needs_598(n, word_):
    assert word("error_rate < 0.005", run_of([100.0] * n)) == word_


@pytest.mark.parametrize("slow", range(0, 60, 3))
def test_the_answer_on_p95_is_that_of_the_exact_binomial_test(slow):
    n = 400
    expected = (
        "pass" if binom.cdf(slow, n, 0.05) < 0.05 else "fail" if binom.sf(slow - 1, n, 0.05) < 0.05 else "inconclusive"
    )

    assert (
        word(P95, run_of(np.random.default_rng(slow).permutation([2_000.0] * slow + [100.0] * (n - slow)))) == expected
    )


def test_a_decided_criterion_tells_value_bounds_and_n():
    found = judged(P95, run_of(np.random.default_rng(0).permutation(range(401, 801))))

    assert (found.verdict, found.value, found.n, found.confidence) == ("pass", 780, 400, 0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 780 < found.high < 801
    assert found.needs is None


def test_a_limit_met_exactly_is_met_by_at_most_and_missed_by_less_than():
    samples = run_of([1_000.0] * 100)

    assert word("ttft_ms.p95 <= 1000", samples) == "pass"
    assert word(P95, samples) == "fail"


@pytest.mark.parametrize(("seconds", "word_"), [(1.0, "pass"), (5.0, "fail")])
def test_where_higher_is_better_the_lower_bound_must_pass(seconds, word_):
    samples = [made(n=i, writes_ms=seconds * 1_000) for i in range(100)]

    assert word("output_rate.p50 > 10", samples) == word_


def test_half_the_requests_below_a_lower_limit_leave_it_open():
    samples = [made(n=i, writes_ms=1_000 if i % 2 else 5_000) for i in range(100)]

    assert word("output_rate.p50 > 10", samples) == "inconclusive"


def test_the_needed_requests_are_enough_if_the_share_stays():
    open_one = judged(P95, shuffled([2_000.0] * 4 + [100.0] * 146))

    assert open_one.verdict == "inconclusive"
    assert open_one.needs is not None
    n = 150 + open_one.needs
    slow = math.ceil(n * 4 / 150)
    again = shuffled([2_000.0] * slow + [100.0] * (n - slow))
    assert word(P95, again) == "pass"


def test_a_service_at_its_limit_needs_more_than_can_be_told():
    assert judged(P95, shuffled([2_000.0] * 20 + [100.0] * 380)).needs is None


def test_two_looks_are_each_judged_at_half_the_error():
    samples = shuffled([2_000.0] * 12 + [100.0] * 388)
    assert binom.cdf(12, 400, 0.05) > 0.025

    assert word(P95, samples) == "pass"
    assert word(P95, samples, confidence=0.975) == "inconclusive"
    assert judged(P95, samples, confidence=0.975).confidence == 0.975


def test_slow_requests_that_come_in_bouts_are_worth_less():
    bouts = [2_000.0] * 5 + [100.0] * 195 + [2_000.0] * 5 + [100.0] * 195
    scattered = list(np.random.default_rng(3).permutation(bouts))

    together, apart = judged(P95, run_of(bouts)), judged(P95, run_of(scattered))

    assert apart.verdict == "pass"
    assert apart.n_effective is None
    assert together.verdict == "inconclusive"
    assert together.n_effective is not None
    assert together.n_effective < 200
    assert "bouts" in together.sentence


def test_a_bout_of_failures_that_was_seen_is_a_failure():
    """Rates are exact binomial: twenty drops in a row are twenty users cut off."""
    samples = [made(n=i, outcome=Outcome.DROPPED if i >= 380 else Outcome.OK) for i in range(400)]

    assert word("error_rate < 0.005", samples) == "fail"


def test_targets_in_turn_are_no_dependence():
    """A slow and a quick target interleaved alternate: within each nothing depends on anything."""
    samples = [made(2_000 if i % 2 else 100, n=i, target="ab"[i % 2]) for i in range(400)]

    assert judged("ttft_ms.p50 < 1000", samples).n_effective is None


# What is missing


def test_p95_that_was_never_reached_fails():
    found = judged(P95, run_of([100.0] * 93 + [None] * 7))

    assert (found.verdict, found.value, found.why) == ("fail", None, "censored")
    assert found.sentence == "p95 not reached: 7 of 100 gave no token"


def test_nothing_but_failures_fails_and_does_not_pass_on_no_sample():
    """Peers' mistake 3: 100 % failure passed, as p95 of nothing was 0."""
    samples = run_of([None] * 100)

    assert word(P95, samples) == "fail"
    assert word("ttft_ms.mean < 1000", samples) == "fail"
    assert word("ttft_ms.max < 1000", samples) == "fail"
    assert word("ttft_ms.cv < 0.5", samples) == "fail"
    assert word("error_rate < 0.005", samples) == "fail"


def test_taking_time_outs_out_does_not_make_a_service_quicker():
    """Peers' mistake 12."""
    survivors = [100.0] * 380

    assert word(P95, run_of(survivors)) == "pass"
    assert word(P95, run_of([*survivors, *[None] * 40])) == "fail"


ALL_CRITERIA = [
    P95,
    "ttft_ms.p99 < 2000",
    "ttft_ms.mean < 1000",
    "ttft_ms.cv < 0.5",
    "ttft_ms.min < 1000",
    "ttft_ms.max < 1000",
    "ttft_ms.p5 > 0",
    "output_rate.p50 > 10",
    "output_rate.mean > 10",
    "itl_ms.p95 < 100",
    "itl_ms.mean < 100",
    "error_rate < 0.005",
    "drop_rate < 0.005",
    "drops == 0",
    "errors <= 0",
    "stalls == 0",
    "timeouts == 0",
    "concurrency_held >= 100",
    "requests_per_s > 1",
    "tokens_per_s > 1",
    "goodput > 1",
    "ttft_degradation <= 1.5",
]


@pytest.mark.parametrize("text", ALL_CRITERIA)
def test_no_criterion_passes_or_fails_on_nothing(text):
    found = judged(text, [])

    assert (found.verdict, found.value, found.why) == ("inconclusive", None, "not_measured")
    assert found.n == 0


@pytest.mark.parametrize("text", ALL_CRITERIA)
def test_no_criterion_passes_when_every_request_failed_without_a_token(text):
    samples = [made(n=i, outcome=Outcome.HTTP_ERROR) for i in range(700)]
    meant_to_pass = {"drop_rate < 0.005", "drops == 0", "timeouts == 0"}

    assert (word(text, samples) == "pass") == (text in meant_to_pass)


def test_stalls_that_nobody_could_have_seen_are_not_none():
    """Answers that came in one read have no gap: whether the service stalled before it, nobody knows."""
    lumps = [made(100.0, n=i, text_events=1) for i in range(100)]

    assert (judged("stalls == 0", lumps).verdict, judged("stalls == 0", lumps).why) == ("inconclusive", "not_measured")
    assert word("stalls == 0", [*lumps, made(100.0, n=100)]) == "pass"


def test_a_missing_token_is_worst_whichever_way_the_limit_points():
    assert word("ttft_ms.p50 > 10", run_of([None] * 100)) == "fail"


def test_ttft_is_open_when_a_twentieth_of_good_answers_owed_no_text():
    def with_tools(n: int) -> list[Sample]:
        tools = [made(None, n=900 + i, tool_events=1, outcome=Outcome.OK) for i in range(n)]
        return [*run_of([100.0] * 380), *tools]

    assert word(P95, with_tools(20)) == "pass"
    found = judged(P95, with_tools(21))
    assert (found.verdict, found.why) == ("inconclusive", "no_text")
    assert "raise max_tokens or judge ttfr" in found.sentence
    assert word("error_rate < 0.05", with_tools(21)) == "pass"


def test_gaps_that_we_merged_ourselves_leave_their_quantile_open():
    samples = [made(n=i, gaps_ms=[10] * 32, text_events=33, merged_events=2) for i in range(100)]

    assert (judged("itl_ms.p95 < 100", samples).verdict, judged("itl_ms.p95 < 100", samples).why) == (
        "inconclusive",
        "merged",
    )
    assert word("itl_ms.p90 < 100", samples) == "pass"


def test_gaps_of_one_request_are_not_so_many_witnesses():
    """3,200 gaps, all over the limit in two of a hundred requests: two slow requests, not 64 slow gaps."""
    samples = [made(n=i, gaps_ms=[200 if i < 4 else 10] * 32) for i in range(100)]

    found = judged("itl_ms.p95 < 100", samples)

    assert found.n == 100
    assert found.verdict == "inconclusive"
    assert word("itl_ms.p95 < 100", [made(n=i, gaps_ms=[10] * 32) for i in range(100)]) == "pass"


def test_a_count_is_judged_as_it_is():
    fine = run_of([100.0] * 3)

    assert word("drops == 0", fine) == "pass"
    assert word("drops == 0", [*fine, made(n=9, outcome=Outcome.TRUNCATED)]) == "fail"


def test_a_count_that_is_fine_so_far_is_no_pass_of_a_run_cut_short():
    fine = run_of([100.0] * 3)

    assert word("drops == 0", fine, partial=True) == "inconclusive"
    assert word("drops == 0", [*fine, made(n=9, outcome=Outcome.DROPPED)], partial=True) == "fail"
    assert "cut short" in judged("drops == 0", fine, partial=True).sentence


def test_concurrency_is_what_was_held_not_what_was_asked_for():
    hold = Phase(name="hold", level=100, start_ns=START, end_ns=START + 10_000_000_000)
    samples = [made(100, n=i, due_ms=0, writes_ms=10_000, slot=i, level=100) for i in range(99)]

    assert word("concurrency_held >= 99", samples, phases=[hold]) == "pass"
    assert judged("concurrency_held >= 100", samples, phases=[hold]).value == 99
    assert word("concurrency_held >= 100", samples, phases=[hold]) == "fail"


def test_degradation_has_an_interval_and_is_open_on_a_short_reference():
    rng = np.random.default_rng(5)

    def reference(n: int) -> list[Sample]:
        return run_of(100 * rng.lognormal(0, 0.1, n), phase="reference")

    hold = run_of(110 * rng.lognormal(0, 0.1, 400))

    settled, open_one = (
        judged("ttft_degradation <= 1.5", [*reference(200), *hold]),
        judged("ttft_degradation <= 1.5", [*reference(15), *hold]),
    )

    assert settled.verdict == "pass"
    assert settled.low < settled.value < settled.high < 1.5  # type: ignore[operator]
    assert (open_one.verdict, open_one.why) == ("inconclusive", "too_few")


def test_degradation_is_open_when_a_twentieth_of_the_answers_on_either_side_owed_no_text():
    def tools(phase: str, n: int) -> list[Sample]:
        return [made(None, n=900 + i, tool_events=1, phase=phase) for i in range(n)]

    both = [*run_of([100.0] * 200), *run_of([100.0] * 60, phase="reference")]
    for samples in ([*both, *tools("hold", 20)], [*both, *tools("reference", 6)]):
        found = judged("ttft_degradation <= 1.5", samples)
        assert (found.verdict, found.why) == ("inconclusive", "no_text")
    assert word("ttft_degradation <= 1.5", [*both, *tools("hold", 2), *tools("reference", 2)]) == "pass"


def test_spread_is_judged_by_an_interval_and_not_by_its_point():
    normal = norm.ppf((np.random.default_rng(9).permutation(130) + 0.5) / 130)

    steady, borderline, wild = (run_of(500 * np.exp(sigma * normal)) for sigma in (0.25, 0.45, 0.9))

    assert word("ttft_ms.cv < 0.5", steady) == "pass"
    assert word("ttft_ms.cv < 0.5", borderline) == "inconclusive"
    assert word("ttft_ms.cv < 0.5", wild) == "fail"


def test_two_values_are_no_spread_and_no_growth():
    """Peers' mistake 13."""
    found = judged("ttft_ms.cv < 0.5", run_of([100.0, 101.0]))

    assert (found.verdict, found.why) == ("inconclusive", "too_few")


def test_a_criterion_speaks_of_its_own_target_prompt_and_phase():
    samples = [
        *run_of([100.0] * 60, target="a", prompt="short"),
        *run_of([3_000.0] * 60, target="a", prompt="long"),
        *run_of([3_000.0] * 60, target="b", prompt="short"),
        *run_of([3_000.0] * 60, target="a", prompt="short", phase="warmup"),
    ]

    assert word(P95, samples, target="a", prompt="short") == "pass"
    assert word(P95, samples, target="a", prompt="long") == "fail"
    assert word(P95, samples, target="b") == "fail"
    assert word(P95, samples, target="a", prompt="short", phase="warmup") == "fail"
    assert word(P95, samples, targets=["a"], prompt="short") == "pass"
    assert word(P95, samples, prompt="short") == "fail"


# Gating


@pytest.mark.parametrize(
    ("text", "n", "does"),
    [
        (P95, 150, True),
        (P95, 100, False),
        (P95, 59, False),
        ("ttft_ms.p99 < 2000", 400, False),
        ("ttft_ms.p99 < 2000", 800, True),
        ("ttft_ms.p50 < 500", 50, True),
        ("error_rate < 0.005", 400, False),
        ("error_rate < 0.005", 800, False),
        ("error_rate < 0.005", 2000, True),
        ("output_rate.p50 > 10", 50, True),
        ("ttft_ms.cv < 0.5", 133, True),
        ("ttft_ms.cv < 0.5", 20, False),
        ("drops == 0", None, True),
        ("concurrency_held >= 100", None, True),
        (P95, None, False),
    ],
)
def test_a_criterion_gates_when_a_healthy_service_would_pass_it_in_four_of_five_runs(text, n, does):
    assert gates(criterion(text), n) == does
    assert gates(criterion(text, planned_n=n)) == does


@pytest.mark.parametrize(("n", "share"), [(150, 0.05), (400, 0.05), (800, 0.01)])
def test_the_chance_of_a_pass_is_what_runs_show(n, share):
    rng = np.random.default_rng(n)
    quantile = f"ttft_ms.p{round(100 * (1 - share))} < 1000"
    passes = binom.cdf(np.arange(n), n, share) < 0.05
    seen = passes[rng.binomial(n, share / 5, 100_000)].mean()

    assert verdict.chance(criterion(quantile), n) == pytest.approx(seen, abs=0.005)


def test_an_advisory_criterion_never_gates():
    assert not gates(criterion(P95, advisory=True), 10_000)


def test_the_least_n_of_each_default_is_known_before_the_run():
    texts = (P95, "ttft_ms.p99 < 2000", "error_rate < 0.005", "drops == 0")

    assert [verdict.least_n(criterion(text)) for text in texts] == [59, 299, 598, None]


@pytest.mark.parametrize("cv", [0.1, 0.25])
def test_a_spread_at_half_its_limit_passes_in_four_of_five_runs_from_where_it_gates(cv):
    rng = np.random.default_rng(2)
    sigma = math.sqrt(math.log1p(cv**2))
    runs = 60

    passed = sum(
        word(f"ttft_ms.cv < {2 * cv}", run_of(500 * rng.lognormal(0, sigma, verdict.MOMENT_GATES_FROM))) == "pass"
        for _ in range(runs)
    )

    assert passed >= 0.8 * runs


# The run


def one(verdict_: str, **facts: object) -> Judged:
    whole = {
        "name": "c", "metric": "ttft_ms", "stat": "p95", "op": "<", "limit": 1000.0, "unit": "ms", "target": None,
        "prompt": None, "phase": None, "value": 1.0, "low": 1.0, "high": 1.0, "confidence": 0.95, "n": 400,
        "gating": True, "advisory": False, "verdict": verdict_,
    }  # fmt: skip
    return Judged(**{**whole, **facts})  # type: ignore[arg-type]


PASS, FAIL, OPEN, VOID = one("pass"), one("fail"), one("inconclusive"), one("invalid")
SHOWN = {"gating": False}
ADVISORY = {"gating": False, "advisory": True}


@pytest.mark.parametrize(
    ("criteria", "how", "word_", "exit_"),
    [
        ([PASS, PASS], {}, "pass", 0),
        ([PASS, FAIL], {}, "fail", 1),
        ([PASS, OPEN], {}, "inconclusive", 3),
        ([PASS, one("inconclusive", **SHOWN)], {}, "pass", 0),
        ([PASS, one("fail", **SHOWN)], {}, "fail", 1),
        ([PASS, one("fail", **ADVISORY)], {}, "pass", 0),
        ([PASS, one("invalid", **ADVISORY)], {}, "pass", 0),
        ([one("pass", **SHOWN)], {}, "inconclusive", 3),
        ([one("pass", **ADVISORY)], {}, "inconclusive", 3),
        ([], {}, "inconclusive", 3),
        ([PASS], {"partial": True}, "inconclusive", 3),
        ([FAIL], {"partial": True}, "fail", 1),
        ([PASS, VOID], {}, "invalid", 5),
        ([PASS, FAIL, VOID], {}, "fail", 1),
        ([PASS], {"invalid_because": ["late"]}, "invalid", 5),
        ([FAIL], {"invalid_because": ["late"]}, "fail", 1),
        ([VOID], {"partial": True}, "invalid", 5),
        ([FAIL], {"set_up": "auth_error"}, "invalid", 4),
    ],
)
def test_a_run_is_decided_by_its_criteria(criteria, how, word_, exit_):
    found = decide(criteria, **how)

    assert (found.word, found.exit) == (word_, Exit(exit_))
    assert (found.severity is not None) == (word_ == "fail")


def test_a_run_that_leaves_open_what_its_test_is_about_is_no_pass() -> None:
    rate, shown = one("pass", metric="output_rate"), one("inconclusive", metric="ttft_ms", **SHOWN)
    assert decide([rate, shown], subject="ttft_ms").word == "inconclusive"
    assert decide([rate, shown]).word == "pass"
    assert decide([rate], subject="ttft_ms").word == "pass", "nothing was asked about it"
    assert decide([rate, shown, one("pass", metric="ttft_ms", **SHOWN)], subject="ttft_ms").word == "pass"
    assert decide([rate, shown, one("pass", metric="ttft_ms")], subject="ttft_ms").word == "pass"
    assert decide([rate, one("inconclusive", metric="ttft_ms", **ADVISORY)], subject="ttft_ms").word == "pass"
    assert decide([one("fail", metric="output_rate"), shown], subject="ttft_ms").word == "fail"


@pytest.mark.parametrize(
    ("p95", "errors", "severity"),
    [
        (2_001, 0.0, "P0"),
        (100, 0.051, "P0"),
        (math.inf, 0.0, "P0"),
        (1_501, 0.0, "P1"),
        (100, 0.021, "P1"),
        (2_000, 0.02, "P1"),
        (1_001, 0.006, "P2"),
        (100, 0.0, "P2"),
        (None, None, "P2"),
    ],
)
def test_severity_is_by_the_strategys_thresholds_and_only_on_a_fail(p95, errors, severity):
    assert decide([FAIL], ttft_p95_ms=p95, error_rate=errors).severity == severity
    assert decide([PASS], ttft_p95_ms=p95, error_rate=errors).severity is None


def test_a_criterion_may_bring_its_own_severity():
    assert decide([one("fail", severity="P0")], ttft_p95_ms=100.0, error_rate=0.0).severity == "P0"
    assert decide([one("fail", severity="P2")], ttft_p95_ms=5_000.0, error_rate=0.0).severity == "P2"
    assert decide([one("fail", severity="P2"), FAIL], ttft_p95_ms=5_000.0, error_rate=0.0).severity == "P0"


def test_severity_looks_at_the_slowest_target_and_at_all_errors():
    samples = [*run_of([100.0] * 100, target="a"), *run_of([1_700.0] * 100, target="b")]
    gone = run_of([None] * 100, target="c")

    assert verdict.points(collected(samples).summary()) == (1_700, 0.0)
    assert verdict.points(collected([*samples, *gone]).summary()) == (math.inf, pytest.approx(1 / 3))
    assert verdict.points(collected([]).summary()) == (None, None)


def test_doubling_is_worth_it_when_all_that_is_open_could_be_settled():
    near, far, hopeless = (one("inconclusive", needs=n) for n in (300, 500, None))

    assert verdict.worth_doubling([PASS, near])
    assert not verdict.worth_doubling([PASS, far])
    assert not verdict.worth_doubling([near, hopeless])
    assert not verdict.worth_doubling([PASS])
    assert not verdict.worth_doubling([near, FAIL])
    assert verdict.worth_doubling([near, one("inconclusive", needs=None, **SHOWN)])


def test_criteria_and_judgements_are_json():
    found = judged(P95, run_of([100.0] * 93 + [None] * 7))

    assert msgspec.json.decode(msgspec.json.encode(found), type=Judged) == found


# Properties

TTFTS = st.lists(st.one_of(st.none(), st.floats(1, 3_000)), min_size=1, max_size=130)
QUANTILE = st.sampled_from([P95, "ttft_ms.p50 < 1000", "ttft_ms.p90 <= 1000", "ttft_ms.p99 < 1000"])


@given(QUANTILE, TTFTS, st.lists(st.one_of(st.none(), st.floats(1_001, 9_000)), min_size=1, max_size=40))
def test_adding_slower_requests_never_turns_a_fail_into_a_pass(text, ttfts, slower):
    assume(word(text, run_of(ttfts)) == "fail")

    assert word(text, run_of([*ttfts, *slower])) != "pass"


@given(QUANTILE, TTFTS, st.integers(0, 129), st.one_of(st.none(), st.floats(0, 9_000)))
def test_making_a_request_slower_never_turns_what_did_not_pass_into_a_pass(text, ttfts, which, by):
    """Below 100 requests, where no dependence is looked for: there order could matter."""
    ttfts = ttfts[:99]
    which %= len(ttfts)
    slower = ttfts.copy()
    before = ttfts[which]
    slower[which] = None if before is None or by is None else before + by
    assume(word(text, run_of(ttfts)) != "pass")

    assert word(text, run_of(slower)) != "pass"


@given(QUANTILE, TTFTS)
def test_losing_a_first_token_never_makes_a_pass(text, ttfts):
    assume(word(text, run_of(ttfts)) != "pass")

    assert word(text, run_of([None, *ttfts[1:]])) != "pass"


@given(QUANTILE, TTFTS, st.randoms(use_true_random=False))
def test_the_order_in_which_samples_arrive_changes_no_verdict(text, ttfts, shuffle):
    samples = run_of(ttfts)
    again = samples.copy()
    shuffle.shuffle(again)

    assert judged(text, samples) == judged(text, again)


@given(TTFTS)
def test_a_pass_always_has_a_bound_inside_the_limit_and_a_fail_one_outside_or_a_missing_token(ttfts):
    found = judged(P95, run_of(ttfts))

    if found.verdict == "pass":
        assert found.high is not None
        assert found.high < 1_000
        assert found.value is not None
    if found.verdict == "fail":
        assert found.why == "censored" or (found.low is not None and found.low >= 1_000)
