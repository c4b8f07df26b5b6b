"""MetricsCollector: who counts, what is missing and why, slices. Truth is arithmetic on small runs."""

from __future__ import annotations

import random
import statistics
from array import array

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import MS, START, collected, made, run_of
from streamgauge import slices
from streamgauge.metrics import FROM_DUE, METRICS, Metric
from streamgauge.sample import AuditTick, GapsPart, Outcome, Sample
from streamgauge.summary import MetricsCollector, Phase, Summary

HOLD = Phase(name="hold", level=4, start_ns=START, end_ns=START + 10_000 * MS)


def test_a_notebook_reads_well():
    summary = MetricsCollector().add(made(120)).add(made(180, n=1)).summary()

    assert summary.metrics["ttft_ms"].p50 == 120
    assert summary.metrics["ttft_ms"].max == 180
    assert summary.outcomes == {"ok": 2}


def test_p95_of_a_hundred_is_the_95th_value():
    ttft = collected(run_of(range(1, 101))).summary().metrics["ttft_ms"]

    assert (ttft.n, ttft.p50, ttft.p90, ttft.p95, ttft.p99, ttft.max) == (100, 50, 90, 95, 99, 100)
    assert ttft.mean == pytest.approx(50.5)
    assert ttft.sd == pytest.approx(np.std(range(1, 101), ddof=1))
    assert ttft.why == {}


def test_nothing_measured_is_null_everywhere_with_its_reason():
    """Peers' mistake 3: with no sample every statistic was 0, and 0 passed."""
    summary = MetricsCollector().summary()

    ttft = summary.metrics["ttft_ms"]
    assert ttft.n == 0
    assert (ttft.p95, ttft.mean, ttft.min, ttft.cv) == (None, None, None, None)
    assert set(ttft.why.values()) == {"not_measured"}
    assert summary.rates["error_rate"].value is None
    assert set(summary.scalars.values()) == {None}


def test_our_own_slack_and_lateness_are_told():
    samples = [made(n=i, slack_ms=i, late_ms=2 * i) for i in range(1, 101)]
    columns = collected([*samples, made(None, n=200, outcome=Outcome.SHED)]).columns()
    rows = columns.select()

    assert slices.spread(columns.slack_ms[rows]) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert slices.starts_late(columns, rows) == (100, 75)
    assert slices.spread(columns.slack_ms[:0]) == {"p50": None, "p95": None, "p99": None, "max": None}


def test_a_request_without_its_first_token_is_slower_than_all_others():
    """Peers' mistake 12: survivors' latency. Ten of a hundred time-outs make p95 unreachable, not better."""
    ttft = collected(run_of([100.0] * 90 + [None] * 10)).summary().metrics["ttft_ms"]

    assert (ttft.n, ttft.censored) == (100, 10)
    assert ttft.p90 == 100
    assert (ttft.p95, ttft.p99, ttft.max) == (None, None, None)
    assert ttft.why["p95"] == "censored"


def test_means_and_spread_stand_while_at_most_a_twentieth_is_missing():
    few = collected(run_of([100.0, 200.0] * 48 + [None] * 4)).summary().metrics["ttft_ms"]
    many = collected(run_of([100.0, 200.0] * 47 + [None] * 6)).summary().metrics["ttft_ms"]

    assert few.mean == pytest.approx(150)
    assert few.cv is not None
    assert (many.mean, many.sd, many.cv) == (None, None, None)
    assert many.why["cv"] == "censored"


def test_a_tail_quantile_of_too_few_is_null_and_not_the_maximum():
    """Peers' mistake 11: p99 of 50."""
    ttft = collected(run_of(range(1, 51))).summary().metrics["ttft_ms"]

    assert ttft.p95 == 48
    assert ttft.p99 is None
    assert ttft.why == {"p99": "too_few"}


def test_ten_requests_of_which_none_gave_a_token_are_not_too_few_to_say_so():
    ttft = collected(run_of([None] * 10)).summary().metrics["ttft_ms"]

    assert ttft.why["p95"] == "censored"


def test_cancelled_and_our_own_limits_are_in_no_population():
    samples = [
        *run_of([100.0] * 8),
        made(None, n=8, outcome=Outcome.CANCELLED),
        made(None, n=9, outcome=Outcome.CLIENT_LIMIT),
    ]

    summary = collected(samples).summary()

    assert summary.metrics["ttft_ms"].n == 8
    assert summary.rates["error_rate"].n == 8
    assert summary.outcomes == {"ok": 8, "cancelled": 1, "client_limit": 1}


def test_a_shed_request_counts_from_due_and_not_from_sent():
    summary = collected([*run_of([100.0] * 9), made(None, n=9, outcome=Outcome.SHED)]).summary()

    assert (summary.metrics["ttft_ms"].n, summary.metrics["ttft_ms"].censored) == (10, 1)
    assert (summary.metrics["ttft_service_ms"].n, summary.metrics["ttft_service_ms"].censored) == (9, 0)
    assert (summary.rates["error_rate"].k, summary.rates["error_rate"].n) == (1, 10)
    assert (summary.rates["drop_rate"].k, summary.rates["drop_rate"].n) == (0, 9)
    assert summary.scalars["errors"] == 1


def test_a_tool_call_owes_no_text_and_leaves_the_n_of_ttft():
    tool = made(None, n=9, tool_events=3, first_output_ns=START + 1_000 * MS, last_output_ns=START + 1_100 * MS)

    ttft = collected([*run_of([100.0] * 9), tool]).summary().metrics["ttft_ms"]

    assert (ttft.n, ttft.censored, ttft.no_text) == (9, 0, 1)


def test_an_answer_cut_while_reasoning_owes_no_text():
    cut = made(None, outcome=Outcome.LENGTH_CAPPED, max_tokens=32, reasoning_events=32)

    ttft = collected([cut]).summary().metrics["ttft_ms"]

    assert (ttft.n, ttft.no_text) == (0, 1)
    assert ttft.why["p95"] == "no_text"


def test_a_failed_request_has_no_end_to_be_proud_of():
    """A refusal after 5 ms must not make e2e faster: for `answer` metrics every failure counts as never."""
    e2e = (
        collected([*run_of([100.0] * 9), made(n=9, outcome=Outcome.CONNECT_REFUSED, end_ms=5)])
        .summary()
        .metrics["e2e_ms"]
    )

    assert (e2e.n, e2e.censored) == (10, 1)
    assert e2e.min == 1_000


def test_a_first_byte_that_came_is_told_though_the_answer_broke_off_later():
    """The median first byte must never lie after the median first token, because of answers that were cut short."""
    cut = [made(100.0, n=n, outcome=Outcome.TRUNCATED) for n in range(60)]
    refused = [made(n=60 + n, outcome=Outcome.CONNECT_REFUSED) for n in range(10)]
    found = collected([*cut, *refused]).summary().metrics

    assert (found["ttfb_ms"].n, found["ttfb_ms"].censored, found["ttfb_ms"].p50) == (70, 10, 100)
    assert found["ttfb_ms"].p50 == found["ttft_service_ms"].p50


def test_reasoning_that_never_came_is_owed_only_where_the_model_reasons():
    reasons = [made(500.0, n=n, first_reasoning_ns=START + n * 100 * MS + 50 * MS) for n in range(20)]
    plain = [made(500.0, n=n) for n in range(20)]
    failed = [made(n=20 + n, outcome=Outcome.FIRST_TOKEN_TIMEOUT) for n in range(5)]

    thinker = collected([*reasons, *failed]).summary().metrics["ttfr_ms"]
    assert (thinker.n, thinker.censored, thinker.p90, thinker.why["p90"]) == (25, 5, None, "censored")
    talker = collected([*plain, *failed]).summary().metrics["ttfr_ms"]
    assert (talker.n, talker.why["p50"]) == (0, "not_measured")
    nobody = collected(failed).summary().metrics["ttfr_ms"]
    assert (nobody.n, nobody.censored) == (5, 5)


def test_rates_have_the_exact_interval():
    rate = (
        collected([*run_of([100.0] * 98), *(made(n=98 + i, outcome=Outcome.DROPPED) for i in range(2))]).summary().rates
    )

    assert (rate["drop_rate"].k, rate["drop_rate"].n, rate["drop_rate"].value) == (2, 100, 0.02)
    assert rate["drop_rate"].high == pytest.approx(0.0616, abs=1e-4)
    assert rate["drop_rate"].low == pytest.approx(0.00357, abs=1e-4)


def test_counts_are_told_with_the_scalars():
    samples = [
        made(n=0, outcome=Outcome.DROPPED),
        made(n=1, outcome=Outcome.TRUNCATED),
        made(n=2, outcome=Outcome.STALL_TIMEOUT, stalls=2),
        made(n=3),
    ]

    scalars = collected(samples).summary().scalars

    assert (scalars["drops"], scalars["errors"], scalars["timeouts"], scalars["stalls"]) == (2, 3, 1, 2)


def test_judged_are_all_phases_but_warmup_reference_ramp_and_drain():
    samples = [made(1_000, n=i, phase=phase) for i, phase in enumerate(["warmup", "reference", "ramp", "drain"])]

    summary = collected([*samples, made(10, n=9)]).summary()

    assert summary.judged_phases == ["hold"]
    assert summary.metrics["ttft_ms"].n == 1
    assert collected(samples[:2]).summary().judged_phases == ["warmup", "reference"]


def test_groups_slice_by_target_prompt_phase_and_level():
    samples = [
        made(10 * (i + 1), n=i, target=target, prompt=prompt, phase=phase, level=level)
        for i, (target, prompt, phase, level) in enumerate(
            [
                ("a", "short", "hold", 5),
                ("a", "long", "hold", 10),
                ("b", "short", "hold", 10),
                ("b", "short", "reference", 1),
            ]
        )
    ]

    summary = collected(samples).summary()

    def p50(**slice_: object) -> float | None:
        group = summary.group(**slice_)  # type: ignore[arg-type]
        assert group is not None
        return group.metrics["ttft_ms"].p50

    assert p50(target="a") == 10
    assert p50(target="a", prompt="long") == 20
    assert p50(target="b") == 30
    assert p50(target="b", phase="reference") == 40
    assert p50(phase="hold", level=10) == 20
    assert p50(phase="hold") == 20
    assert summary.group(target="nobody") is None


def test_a_control_has_its_group_and_stays_out_of_the_top_level():
    samples = [*run_of([500.0] * 5), *run_of([100.0] * 5, target="provider")]

    summary = collected(samples).summary(targets=["app"])

    control = summary.group(target="provider")
    assert summary.metrics["ttft_ms"].max == 500
    assert summary.metrics["ttft_ms"].n == 5
    assert control is not None
    assert control.metrics["ttft_ms"].p50 == 100


def test_tokens_are_of_usage_only_when_every_good_sample_has_it():
    counted = [made(n=i, target="counts", tokens=65) for i in range(4)]
    partly = [made(n=i, target="forgets", tokens=65 if i else None) for i in range(4)]
    failed = made(n=9, target="counts", outcome=Outcome.DROPPED)

    summary = collected([*counted, *partly, failed]).summary()

    assert summary.tokens_from == {"counts": "usage", "forgets": "events"}
    rates = {name: summary.group(target=name).metrics["output_rate"].p50 for name in summary.tokens_from}  # type: ignore[union-attr]
    assert rates["counts"] == pytest.approx(64 / 0.9)
    assert rates["forgets"] == pytest.approx(32 / 0.9)
    tpot = summary.group(target="forgets").metrics["tpot_ms"]  # type: ignore[union-attr]
    assert tpot.p50 == pytest.approx(900 / 32)


def test_gaps_are_pooled_over_requests():
    itl = collected([made(n=0, gaps_ms=[10, 20, 30]), made(n=1, gaps_ms=[40] * 97)]).summary().metrics["itl_ms"]

    assert (itl.n, itl.min, itl.p50, itl.p95, itl.max) == (100, 10, 40, 40, 40)
    assert itl.mean == pytest.approx(39.4)


@given(
    st.lists(
        st.one_of(st.integers(0, 300), st.integers(10_000, 40_000), st.integers(0, 2**32 - 1)), min_size=1, max_size=400
    ),
    st.integers(1, 30),
)
def test_gaps_are_summed_up_as_the_plain_list_of_them_would_be(gaps: list[int], times: int):
    ordered = sorted(gaps * times)
    sample = msgspec.structs.replace(made(), gaps=array("I", gaps * times).tobytes())
    itl = collected([sample]).summary().metrics["itl_ms"]

    assert itl.n == len(ordered)
    assert (itl.min, itl.max) == (ordered[0] / 1e3, ordered[-1] / 1e3)
    for stat, share in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        told = getattr(itl, stat)
        assert told in (ordered[-(-share * len(ordered) // 100) - 1] / 1e3, None)
        assert (told is None) == (stat in itl.why)
    assert itl.p50 is not None
    assert itl.mean == pytest.approx(statistics.fmean(ordered) / 1e3)
    if len(ordered) > 1:
        assert itl.sd == pytest.approx(statistics.stdev(map(float, ordered)) / 1e3, abs=1e-6)


def test_gaps_that_were_spilled_come_first_and_in_order():
    collector = MetricsCollector()
    collector.add(GapsPart("f" * 32, 1, array("I", [2_000]).tobytes()))
    collector.add(GapsPart("f" * 32, 0, array("I", [1_000]).tobytes()))
    collector.add(msgspec.structs.replace(made(gaps_ms=[3]), id="f" * 32, gap_parts=2))

    assert list(collector.columns().gaps) == [1_000, 2_000, 3_000]


@pytest.mark.parametrize(
    ("merged", "missing"), [(0, []), (2, ["p99"]), (6, ["p95", "p99"]), (60, ["p50", "p90", "p95", "p99"])]
)
def test_a_gap_quantile_is_null_once_more_events_merged_than_lie_beyond_it(merged, missing):
    sample = made(gaps_ms=range(1, 201), text_events=100, merged_events=merged)

    itl = collected([sample]).summary().metrics["itl_ms"]

    assert sorted(stat for stat, why in itl.why.items() if why == "merged") == missing
    assert all(getattr(itl, stat) is None for stat in missing)


def test_what_workers_saw_of_themselves_is_not_a_request():
    tick = AuditTick(
        worker=0, at_ns=1, cpu=0.1, longest_turn_ns=1, open_streams=0, open_sockets=0, text_events=0, bytes_in=0,
        starts=0, steps=[],
    )  # fmt: skip

    assert len(MetricsCollector().add(tick)) == 0


def test_a_closed_loop_that_refills_at_once_holds_its_level():
    samples = [
        made(100, n=100 * slot + i, due_ms=500.0 * i, writes_ms=390, slot=slot) for slot in range(4) for i in range(20)
    ]

    scalars = collected(samples).summary(phases=[HOLD]).scalars

    assert scalars["concurrency_held"] == 4
    assert scalars["open_streams_mean"] == pytest.approx(4 * 490 / 500)
    assert scalars["requests_per_s"] == pytest.approx(8)
    assert scalars["tokens_per_s"] == pytest.approx(8 * 33)


def test_slots_that_lie_empty_are_not_held():
    """Peers' mistake 14: the level asked for is not the level there was."""
    samples = [
        made(100, n=100 * slot + i, due_ms=1_000.0 * i, writes_ms=100, slot=slot)
        for slot in range(4)
        for i in range(10)
    ]

    scalars = collected(samples).summary(phases=[HOLD]).scalars

    assert scalars["concurrency_held"] == 0
    assert scalars["open_streams_mean"] == pytest.approx(0.8)


def test_streams_that_began_in_the_ramp_are_held_in_the_hold():
    samples = [made(100, n=i, due_ms=-1_000, writes_ms=20_000, phase="ramp", slot=i) for i in range(7)]

    scalars = collected([*samples, made(n=8, slot=8)]).summary(phases=[HOLD], judged=["hold"]).scalars

    assert scalars["concurrency_held"] == 7


def test_goodput_is_of_requests_within_every_limit():
    samples = [made(ttft, n=i) for i, ttft in enumerate([100, 900, 1_100, 100])]
    samples.append(made(n=4, outcome=Outcome.TRUNCATED))

    summary = collected(samples).summary(phases=[HOLD], limits={"ttft_ms": 1_000, "output_rate": 30})

    assert summary.scalars["goodput"] == pytest.approx(0.3)
    assert collected(samples).summary(phases=[HOLD]).scalars["goodput"] is None


def test_degradation_is_the_holds_p95_over_the_references():
    samples = [*run_of(range(1, 101), phase="reference"), *run_of(range(2, 202, 2))]

    assert collected(samples).summary().scalars["ttft_degradation"] == 2
    assert collected(run_of(range(100))).summary().scalars["ttft_degradation"] is None


SOME = st.lists(
    st.builds(
        made,
        st.one_of(st.none(), st.floats(1, 5_000)),
        n=st.integers(0, 500),
        outcome=st.sampled_from(Outcome),
        target=st.sampled_from(["a", "b"]),
        prompt=st.sampled_from(["short", "long"]),
        phase=st.sampled_from(["hold", "warmup"]),
        slot=st.integers(0, 3),
        gaps_ms=st.lists(st.integers(1, 50), max_size=3),
    ),
    max_size=25,
)


def numbers(summary: Summary) -> object:
    return msgspec.to_builtins(msgspec.structs.replace(summary, groups=[], tokens_from={}, judged_targets=[]))


@settings(max_examples=30, deadline=None)
@given(SOME, st.randoms(use_true_random=False))
def test_the_order_in_which_samples_come_changes_no_number(samples: list[Sample], shuffle: random.Random):
    again = samples.copy()
    shuffle.shuffle(again)

    first, second = (
        numbers(collected(samples).summary(judged=["hold"])),
        numbers(collected(again).summary(judged=["hold"])),
    )

    assert first == approximately(second)


def approximately(value: object) -> object:
    """Sums of floats depend on their order in the last digits, and on nothing else."""
    if isinstance(value, dict):
        return {key: approximately(one) for key, one in value.items()}
    return pytest.approx(value, rel=1e-9) if isinstance(value, float) else value


def _in_population(metric: Metric, sample: Sample) -> bool:
    """Judged, and not `shed` unless the metric counts from due."""
    if not sample.judged:
        return False
    return sample.outcome is not Outcome.SHED or metric.name in FROM_DUE


@settings(max_examples=30, deadline=None)
@given(SOME)
def test_every_metric_has_the_population_that_the_table_of_metrics_says(samples: list[Sample]):
    """The population and `of` are asked Sample by Sample; columns must agree."""
    summary = collected(samples).summary(judged=["hold"])

    for name in ("ttft_ms", "ttft_service_ms", "queue_ms", "longest_gap_ms"):
        metric = METRICS[name]
        assert metric.value is not None
        of = [s for s in samples if s.phase == "hold" and _in_population(metric, s)]
        seen = sorted(v for s in of if (v := metric.of(s)) is not None)
        owed = sum(metric.of(s) is None and metric.owed == "text" and s.owes_text for s in of)
        assert summary.metrics[name].n == len(seen) + owed
        assert summary.metrics[name].censored == owed
        assert summary.metrics[name].min == (pytest.approx(seen[0]) if seen else None)


@settings(max_examples=30, deadline=None)
@given(SOME)
def test_a_summary_is_always_json_with_neither_nan_nor_infinity(samples: list[Sample]):
    text = msgspec.json.encode(collected(samples).summary())

    assert b"NaN" not in text
    assert b"Infinity" not in text
