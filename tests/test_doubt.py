"""INVALID: what we did ourselves is not told as the service's. Rules (a) to (d) of the measurement, and the set-up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import collected, made, run_of
from streamgauge import doubt, verdict
from streamgauge.evidence import Evidence, Requirement, View, reach
from streamgauge.metrics import METRICS
from streamgauge.sample import Outcome, Sample
from streamgauge.summary import Phase, scope_of
from test_verdict import P95, criterion, judged, word


def late(ttft_ms: float, *, slack_ms: float = 0.0, late_ms: float = 0.0, n: int = 400) -> list[Sample]:
    return [made(ttft_ms, n=i, slack_ms=slack_ms, late_ms=late_ms) for i in range(n)]


# (a) slack and lateness


def test_a_fail_that_our_slack_explains_is_invalid():
    found = judged(P95, late(1_010, slack_ms=20))

    assert found.verdict == "invalid"
    assert "could turn fail into pass" in found.sentence
    assert found.value == 1_010


def test_a_fail_that_our_lateness_explains_is_invalid_and_that_of_the_service_alone_is_not_touched():
    samples = [msgspec.structs.replace(sample, sent_ns=sample.due_ns) for sample in late(1_010, late_ms=20)]

    assert word(P95, samples) == "invalid"
    assert word("ttft_service_ms.p95 < 1000", samples) == "fail"


def test_slack_far_from_the_limit_changes_nothing():
    assert word(P95, late(300, slack_ms=20)) == "pass"
    assert word(P95, late(3_000, slack_ms=20)) == "fail"


@pytest.mark.parametrize(("slack_ms", "word_"), [(49.0, "pass"), (51.0, "invalid")])
def test_movement_over_a_twentieth_of_the_limit_is_invalid_even_far_from_it(slack_ms, word_):
    assert word(P95, late(300, slack_ms=slack_ms)) == word_


def test_slack_of_a_few_requests_is_enough_where_they_decide():
    """p95 of the slack is 0 here: the verdict hangs on the twenty slow ones whose own slack is wide."""
    samples = [*late(100, n=370), *(made(1_010, n=370 + i, slack_ms=30) for i in range(30))]

    assert word(P95, samples) == "invalid"


def test_a_rate_that_could_be_faster_or_slower_is_tried_both_ways():
    samples = [
        msgspec.structs.replace(made(n=i, writes_ms=3_190), first_output_slack_ns=30_000_000) for i in range(100)
    ]

    assert word("output_rate.p50 > 10", [made(n=i, writes_ms=3_190) for i in range(100)]) == "pass"
    assert word("output_rate.p50 > 10", samples) == "invalid"


def test_tokens_that_never_came_fail_however_wide_our_slack_is():
    samples = [*late(100, slack_ms=500, n=80), *run_of([None] * 20)]

    assert word(P95, samples) == "fail"
    assert word("error_rate < 0.005", samples) == "fail"


def test_a_spread_is_moved_in_shares_of_the_mean():
    samples = [made(ttft, n=i, slack_ms=20) for i, ttft in enumerate([300, 400] * 100)]

    assert word("ttft_ms.cv < 0.5", samples) == "invalid"
    assert (
        word("ttft_ms.cv < 0.5", [msgspec.structs.replace(s, first_token_slack_ns=5_000_000) for s in samples])
        == "pass"
    )


def test_counts_rates_and_gaps_rest_on_no_stamp_of_ours():
    samples = late(300, slack_ms=500)

    assert word("drops == 0", samples) == "pass"
    assert word("error_rate < 0.05", samples) == "pass"


def test_doubt_of_what_holds_back_no_pass_leaves_it_open_unless_it_could_fail():
    """5 ms of lateness is a tenth of this spread's limit, and nothing to p95; 450 ms may be all that p99 fails by."""
    spread = criterion("ttft_ms.cv < 0.5", gating=False)
    slow = criterion("ttft_ms.p50 < 1000", gating=False)
    columns = collected([made(90.0 + 20 * (n % 2), n=n, late_ms=5) for n in range(400)]).columns()
    both = verdict.judge([criterion(P95), spread], columns, scope_of(columns))
    assert [one.verdict for one in both] == ["pass", "inconclusive"]
    assert both[1].sentence.startswith("undecided: our own slack and lateness reach 5 ms")
    assert verdict.decide(both).word == "pass"

    late_ones = collected(late(1_200.0, late_ms=450)).columns()
    one = verdict.judge([slow], late_ones, scope_of(late_ones))
    assert one[0].verdict == "invalid"


# (b), (c): the load


@pytest.mark.parametrize(("missed", "doubts"), [(0, 0), (20, 0), (21, 1)])
def test_more_than_a_twentieth_of_the_starts_late_or_missing_is_invalid(missed, doubts):
    columns = collected(run_of([100.0] * 5)).columns()

    assert len(verdict.run_doubts(columns, scope_of(columns), starts=400, missed=missed)) == doubts


def test_any_limit_of_our_own_machine_in_the_judged_phases_is_invalid():
    samples = [*run_of([100.0] * 5), made(None, n=9, outcome=Outcome.CLIENT_LIMIT)]
    warm = [*run_of([100.0] * 5), made(None, n=9, outcome=Outcome.CLIENT_LIMIT, phase="warmup")]

    def doubts(of: list[Sample]) -> list[str]:
        columns = collected(of).columns()
        return verdict.run_doubts(columns, scope_of(columns), starts=6, missed=0)

    assert doubts(samples) == ["1 requests met a limit of this machine (descriptors or ports)"]
    assert doubts(warm) == []


def test_a_doubt_about_the_run_voids_time_and_load_but_no_failure_seen_on_the_wire():
    because = ["21 of 400 starts were late or missing through us, over 5 %"]
    samples = [*run_of([100.0] * 380), *(made(n=400 + i, outcome=Outcome.DROPPED) for i in range(20))]

    def how(text: str, of: Sequence[Sample] = samples) -> str:
        return word(text, of, invalid_because=because)

    assert how(P95) == "invalid"
    assert how("itl_ms.p95 < 100") == "invalid"
    assert how("concurrency_held >= 4") == "invalid"
    assert how("stalls == 0") == "invalid"
    assert how("ttft_ms.p95 < 50") == "invalid"
    assert how("drops == 0") == "fail"
    assert how("error_rate < 0.005") == "fail"
    assert how("error_rate < 0.5") == "pass"
    assert how(P95, run_of([100.0] * 50 + [None] * 50)) == "fail"


def test_a_crash_and_a_level_that_failed_stand_whatever_our_own_load_was_and_no_pass_of_theirs_does():
    because = ["21 of 400 starts were late or missing through us, over 5 %"]
    for metric, limit in (("crashes", "== 0"), ("level_error_rate", "< 0.05"), ("capacity", ">= 100")):
        found = {
            answer: word(
                f"{metric} {limit}", run_of([100.0] * 100), invalid_because=because,
                given={metric: lambda ask, confidence, said=answer: Evidence(said, value=1.0, n=100)},
            )
            for answer in ("pass", "fail")
        }  # fmt: skip
        assert found == {"pass": "invalid", "fail": "invalid" if metric == "capacity" else "fail"}


# (d) a step of the clock


def stepped(ttfts: list[float], flagged: int) -> list[Sample]:
    return [msgspec.structs.replace(s, clock_step=i < flagged) for i, s in enumerate(run_of(ttfts))]


def test_flagged_requests_that_could_turn_a_pass_are_invalid_and_fewer_are_not():
    assert word(P95, stepped([100.0] * 400, 5)) == "pass"
    assert word(P95, stepped([100.0] * 400, 40)) == "invalid"


def test_flagged_requests_that_could_turn_a_fail_are_invalid():
    """Forty slow ones, spread over the run; were they ours, it would pass."""
    plain = [made(2_000.0 if i * 147 % 400 < 40 else 100.0, n=i) for i in range(400)]
    flagged = [msgspec.structs.replace(s, clock_step=i * 147 % 400 < 40) for i, s in enumerate(plain)]

    assert word(P95, plain) == "fail"
    assert word(P95, flagged) == "invalid"


def test_a_spread_is_judged_again_without_flagged_requests():
    ttfts = [5_000.0] * 4 + [100.0, 110.0] * 100

    assert word("ttft_ms.cv < 0.5", stepped(ttfts, 0)) == "fail"
    assert word("ttft_ms.cv < 0.5", stepped(ttfts, 4)) == "invalid"


def test_a_step_of_the_clock_may_have_made_or_hidden_a_stall_or_a_long_gap():
    """33 gaps of 30 ms in each of 200 requests; a step adds a gap of any length to each request in flight."""
    plain = [made(100.0, n=n, gaps_ms=[30.0] * 33) for n in range(200)]
    one = [msgspec.structs.replace(s, clock_step=i == 7) for i, s in enumerate(plain)]
    many = [msgspec.structs.replace(s, clock_step=i % 4 > 0) for i, s in enumerate(plain)]

    assert [word("stalls == 0", samples) for samples in (plain, one)] == ["pass", "invalid"]
    assert [word("itl_ms.p95 < 50", samples) for samples in (plain, one, many)] == ["pass", "pass", "pass"]
    assert [word("itl_ms.p99 < 50", samples) for samples in (plain, many)] == ["pass", "invalid"]


# The set-up


def ended(*outcomes: Outcome, **facts: object) -> list[Sample]:
    return [msgspec.structs.replace(made(None, n=i, outcome=o), **facts) for i, o in enumerate(outcomes)]


@pytest.mark.parametrize(
    ("samples", "found"),
    [
        (ended(*[Outcome.AUTH_ERROR] * 5), "auth_error"),
        (ended(*[Outcome.PROTOCOL_ERROR] * 5), "protocol_error"),
        (ended(*[Outcome.TLS_ERROR] * 5), "tls_error"),
        (ended(*[Outcome.HTTP_ERROR] * 5, http_status=404), "http_error"),
        (ended(*[Outcome.HTTP_ERROR] * 5, http_status=500), None),
        (ended(*[Outcome.AUTH_ERROR] * 5, Outcome.OK), None),
        (ended(*[Outcome.AUTH_ERROR] * 5, Outcome.TLS_ERROR), None),
        (ended(*[Outcome.AUTH_ERROR] * 5, Outcome.CANCELLED, Outcome.SHED), "auth_error"),
        (ended(*[Outcome.CONNECT_REFUSED] * 5), None),
        (ended(*[Outcome.OK] * 5), None),
        ([], None),
    ],
)
def test_a_run_that_never_worked_and_always_ended_alike_measured_its_set_up(samples, found):
    assert doubt.set_up(collected(samples).columns()) == found


def test_a_warm_up_that_worked_shows_that_the_set_up_is_right():
    samples = [made(n=9, phase="warmup"), *ended(*[Outcome.AUTH_ERROR] * 5)]

    assert doubt.set_up(collected(samples).columns()) is None


def test_what_does_not_stand_is_named_for_the_report():
    columns = collected(late(1_010, slack_ms=20)).columns()
    found = verdict.judge([criterion(P95), criterion(P95, advisory=True)], columns, scope_of(columns))

    assert verdict.doubts_of(found) == [f"{P95}: our own slack and lateness could turn fail into pass"]
    assert verdict.decide(found).word == "invalid"


# How far a number could be off


def test_a_few_late_starts_that_carry_a_quantile_away_void_it_and_no_other():
    """24 of 600, each 500 ms late: p95 of the lateness is 0, p50 and p95 of ttft are right, p99 is 500 ms too high."""
    samples = [made(300.0 + i % 7 + 500 * (i % 25 == 0), n=i, late_ms=500.0 * (i % 25 == 0)) for i in range(600)]

    assert word("ttft_ms.p50 < 500", samples) == "pass"
    assert word(P95, samples) == "pass"
    assert word("ttft_ms.p99 < 2000", samples) == "invalid"
    assert "could have moved it by 498 ms" in judged("ttft_ms.p99 < 2000", samples).sentence
    assert word("ttft_ms.mean < 2000", samples) == "pass"


def test_slack_of_requests_that_a_quantile_does_not_rest_on_leaves_it_as_it_is():
    samples = [made(200.0 + 3 * i, n=i, slack_ms=290.0 * (i >= 180)) for i in range(200)]

    assert word("ttft_ms.p50 < 1000", samples) == "pass"
    assert word("ttft_ms.p95 < 1000", samples) == "invalid"


@given(st.integers(0, 2**32), st.sampled_from([("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]))
@settings(max_examples=30, deadline=None)
def test_a_quantile_is_never_further_from_the_truth_than_is_told(seed, quantile):
    """Truth: each value less some part of its own slack, drawn."""
    stat, share = quantile
    draw = np.random.default_rng(seed)
    told, slack = draw.lognormal(6, 0.5, 150), draw.exponential(100, 150) * (draw.random(150) < draw.random())
    true = told - slack * draw.random(150)
    samples = [made(float(t), n=i, slack_ms=float(s)) for i, (t, s) in enumerate(zip(told, slack, strict=True))]
    columns = collected(samples).columns()
    ask = Requirement("ttft_ms", stat, "<", 1_000.0)
    moved = reach(columns, ask, METRICS["ttft_ms"], columns.select(), (View(moved="earliest"), View(moved="latest")))
    rank = math.ceil(round(share * 150, 9)) - 1

    assert moved is not None
    assert abs(np.sort(told)[rank] - np.sort(true)[rank]) <= moved + 0.001


def test_a_quantile_that_no_criterion_asks_about_is_told_with_how_far_it_could_be_off():
    columns = collected([made(300.0, n=i, slack_ms=120.0 * (i % 25 == 0)) for i in range(200)]).columns()
    wide = collected([made(300.0, n=i, slack_ms=60.0) for i in range(200)]).columns()

    assert doubt.unsure(columns, scope_of(columns)) == []
    assert [(metric, stat) for _, metric, stat, _ in doubt.unsure(wide, scope_of(wide))] == [
        ("ttft_ms", "p50"), ("ttft_ms", "p95"), ("ttft_service_ms", "p50"), ("ttft_service_ms", "p95"),
    ]  # fmt: skip


def test_a_step_of_known_length_moves_a_request_no_further_than_that():
    columns = collected(stepped([100.0] * 400, 40)).columns()
    second = 1_000_000_000

    def how(jump_ns: int) -> str:
        known = columns.stepped([(0, 0, jump_ns)])
        return verdict.judge([criterion(P95)], known, scope_of(known))[0].verdict

    assert [how(jump) for jump in (200_000, -49_000_000)] == ["pass", "pass"]
    assert [how(jump) for jump in (-51_000_000, 3_600 * second)] == ["invalid", "invalid"]


def test_a_request_that_ended_before_a_step_was_noticed_is_flagged_too():
    """Three in turn, a second each; the step lies between two looks, 20 ms after the end of the second."""
    columns = collected([made(100.0, n=i, due_ms=1_000.0 * i) for i in range(3)]).columns()
    ends = columns.end.tolist()
    since = ends[1] + 20_000_000

    assert not columns.clock_step.any()
    assert columns.stepped([(since, since + 100_000_000, 5_000_000)]).clock_step.tolist() == [False, True, True]


def test_streams_that_were_not_held_because_we_were_late_are_not_the_services_failure():
    """Four slots, each with ten answers of 1 s; between two of them the next starts 600 ms late, through us or not."""

    def held(late_ms: float) -> str:
        samples = [
            made(100.0 + 600.0, n=10 * slot + i, due_ms=1_600.0 * i, writes_ms=900.0, slot=slot, late_ms=late_ms)
            for slot in range(4) for i in range(10)
        ]  # fmt: skip
        samples = [msgspec.structs.replace(s, start_ns=s.due_ns + 600_000_000) for s in samples]
        columns = collected(samples).columns()
        phases = [Phase(name="hold", level=4, start_ns=int(columns.due.min()), end_ns=int(columns.end.max()))]
        return verdict.judge([criterion("concurrency_held >= 4")], columns, scope_of(columns, phases=phases))[0].verdict

    assert held(0.0) == "fail"
    assert held(600.0) == "invalid"


# The target's own machine


@pytest.mark.parametrize(
    ("machine", "ours", "here", "told"),
    [
        (0.97, 0.45, True, True),
        (0.97, 0.45, False, False),
        (0.80, 0.45, True, False),
        (0.97, 0.05, True, False),
        (None, None, True, False),
    ],
)
def test_a_full_machine_that_the_target_runs_on_is_told_where_we_filled_it(machine, ours, here, told):
    assert (doubt.filled(machine, ours, on_this_machine=here) is not None) == told


def test_a_machine_that_we_filled_voids_a_fail_by_time_and_no_pass_and_no_outcome():
    slowed = doubt.filled(0.97, 0.45, on_this_machine=True)
    samples = [*run_of([1_200.0] * 380), *(made(n=400 + i, outcome=Outcome.DROPPED) for i in range(20))]

    assert word(P95, samples) == "fail"
    assert word(P95, samples, slowed_by=slowed) == "invalid"
    assert word("ttft_ms.p95 < 5000", run_of([1_200.0] * 380), slowed_by=slowed) == "pass"
    assert word("drops == 0", samples, slowed_by=slowed) == "fail"
    assert word("error_rate < 0.005", samples, slowed_by=slowed) == "fail"
