from __future__ import annotations

import msgspec
import numpy as np
import pytest

from made import MS, START, collected, made, run_of
from streamgauge import series
from streamgauge.columns import Columns
from streamgauge.sample import Outcome, Sample
from streamgauge.summary import Scope, scope_of


def seen(samples: list[Sample]) -> tuple[Columns, Scope]:
    columns = collected(samples).columns()
    return columns, scope_of(columns)


def test_an_ecdf_of_few_is_every_request():
    (curve,) = series.ecdf(*seen(run_of([30, 10, 20])))

    assert curve.points == [(10, 1 / 3), (20, 2 / 3), (30, 1.0)]
    assert (curve.metric, curve.target, curve.n, curve.censored) == ("ttft_ms", "app", 3, 0)


def test_requests_that_gave_no_token_keep_the_ecdf_below_one():
    (curve,) = series.ecdf(*seen(run_of([10.0] * 9 + [None])))

    assert curve.points[-1] == (10, 0.9)
    assert (curve.n, curve.censored) == (10, 1)


def test_an_ecdf_of_many_is_bounded_and_keeps_the_told_quantiles():
    (curve,) = series.ecdf(*seen(run_of(range(1, 5_001))))

    assert len(curve.points) <= 300
    assert curve.points[0] == (1, 1 / 5_000)
    assert curve.points[-1] == (5_000, 1.0)
    assert {(2_500, 0.5), (4_750, 0.95), (4_950, 0.99)} <= set(curve.points)


def test_each_target_has_its_curve():
    curves = series.ecdf(*seen([*run_of([1.0], target="a"), *run_of([2.0], target="b")]))

    assert [(curve.target, curve.points) for curve in curves] == [("a", [(1, 1.0)]), ("b", [(2, 1.0)])]


def test_a_timeline_counts_each_request_in_the_bin_in_which_it_came_due():
    samples = [made(100, n=i, due_ms=250.0 * i, writes_ms=100) for i in range(160)]
    samples[3] = made(n=3, due_ms=750, outcome=Outcome.HTTP_ERROR)

    found = series.timeline(collected(samples).columns(), start_ns=START)

    assert sum(bin_.n for bin_ in found.bins) == 160
    assert sum(bin_.errors for bin_ in found.bins) == 1
    assert found.bin_s == 2.0
    assert [bin_.n for bin_ in found.bins[:19]] == [8] * 19
    assert found.bins[1].t_s == 2.0
    assert found.bins[0].errors == 1
    assert found.bins[1].ttft_p50_ms == 100


def test_a_timelines_streams_and_tokens_are_those_that_were_there():
    """Ten seconds of writing 33 tokens from second 10: 1 stream from its start, 3.3 tokens a second while it wrote."""
    samples = [made(10_000, n=0, due_ms=0, writes_ms=10_000), made(10, n=1, due_ms=39_000, writes_ms=10, tokens=1)]

    bins = series.timeline(collected(samples).columns(), start_ns=START).bins

    width = 2.0
    assert [bin_.open_mean for bin_ in bins[:10]] == pytest.approx([1.0] * 10)
    assert bins[12].open_mean == 0
    assert bins[2].tokens_per_s == pytest.approx(0)
    assert sum(bin_.tokens_per_s * width for bin_ in bins) == pytest.approx(34)  # type: ignore[operator]
    assert bins[7].tokens_per_s == pytest.approx(3.3)


def test_a_bin_without_requests_has_no_ttft_rather_than_zero():
    samples = [made(100, n=0, due_ms=0), made(100, n=1, due_ms=60_000)]

    bins = series.timeline(collected(samples).columns(), start_ns=START).bins

    assert bins[5].n == 0
    assert (bins[5].ttft_p50_ms, bins[5].ttft_p95_ms) == (None, None)


@pytest.mark.parametrize("hours", [0.001, 0.1, 1, 12, 100])
def test_a_timeline_never_has_more_than_240_bins(hours):
    samples = [made(100, n=i, due_ms=hours * 3_600_000 * i / 3_000) for i in range(3_000)]

    assert 1 <= len(series.timeline(collected(samples).columns(), start_ns=START).bins) <= 240


def test_the_slowest_are_those_whose_user_waited_longest():
    samples = [
        *run_of(range(1, 101)),
        made(n=200, outcome=Outcome.FIRST_TOKEN_TIMEOUT, end_ms=60_000),
        made(n=201, outcome=Outcome.CONNECT_REFUSED, end_ms=1),
        made(9_999, n=202, phase="warmup"),
    ]

    found = series.slowest(*seen(samples), start_ns=START)

    assert found[0].outcome == "first_token_timeout"
    assert found[0].first_token_ms is None
    assert found[0].end_ms == 60_000
    assert [one.first_token_ms for one in found[1:]] == [100, 99, 98, 97, 96, 95, 94, 93, 92]


def test_a_slow_request_is_told_with_its_ids_and_stages():
    sample = msgspec.structs.replace(
        made(700, n=5, slack_ms=1),
        headers={"X-Request-Id": "req_1", "Server-Timing": "db;dur=53"},
        connect_ns=START + 501 * MS,
        conn_requests=3,
    )

    (found,) = series.slowest(*seen([sample]), start_ns=START)

    assert (found.request_id, found.server_timing) == ("req_1", "db;dur=53")
    assert (found.t_s, found.connect_ms, found.tls_ms, found.first_token_ms) == (0.5, 1.0, None, 700)
    assert found.conn_requests == 3


def test_which_ten_are_slowest_does_not_depend_on_the_order_of_arrival():
    samples = run_of([100.0] * 50)

    one = series.slowest(*seen(samples), start_ns=START)
    other = series.slowest(*seen(samples[::-1]), start_ns=START)

    assert [slow.id for slow in one] == [slow.id for slow in other]


def test_every_gap_is_in_the_histogram_and_it_is_bounded():
    gaps = np.random.default_rng(0).lognormal(3, 2, 5_000)

    (found,) = series.gaps(*seen([made(gaps_ms=[*gaps, 0.001, 3_000, 1e6])]))

    assert sum(count for _, _, count in found.histogram) == found.n == 5_003
    assert len(found.histogram) <= 100
    assert all(low < high for low, high, _ in found.histogram)
    assert found.histogram[0][0] <= 0.001
    assert found.histogram[-1][1] >= 1e6
    assert found.over_2s == 2 + int((gaps > 2_000).sum())


def test_equal_gaps_have_one_bin():
    (found,) = series.gaps(*seen([made(gaps_ms=[10] * 5)]))

    assert [count for _, _, count in found.histogram] == [5]


def test_failures_are_told_by_kind_with_who_answered_and_an_example():
    samples = [
        *run_of([100.0] * 6),
        *(
            msgspec.structs.replace(
                made(n=10 + i, outcome=Outcome.HTTP_ERROR), http_status=502, answered_by="nginx", error="bad gateway"
            )
            for i in range(3)
        ),
        made(n=20, outcome=Outcome.DROPPED),
        made(None, n=21, outcome=Outcome.CANCELLED),
    ]

    found = series.not_ok(*seen(samples))

    assert [(one.outcome, one.count) for one in found] == [("http_error", 3), ("dropped", 1)]
    assert (found[0].http_status, found[0].answered_by, found[0].message) == (502, "nginx", "bad gateway")
    assert found[0].share == pytest.approx(3 / 11)
    assert found[0].example_id == f"{10:032x}"


def test_failures_of_a_thousand_servers_do_not_grow_without_bound():
    samples = [
        msgspec.structs.replace(made(n=i, outcome=Outcome.HTTP_ERROR), answered_by=f"pop-{i}") for i in range(1_500)
    ]

    columns, scope = seen(samples)

    assert len(columns.failures) <= 1_001
    assert sum(failure.count for failure in columns.failures) == 1_500
    assert len(series.not_ok(columns, scope)) == 50


def test_a_run_without_requests_has_empty_series():
    columns, scope = seen([])

    found = series.series(columns, scope, start_ns=START)

    assert (found.ecdf, found.timeline, found.slowest, found.gaps, found.not_ok) == ([], [], [], [], [])


def test_all_series_come_together_as_json():
    columns, scope = seen([*run_of([10, 20, None]), *run_of([30], target="other")])

    found = series.series(columns, scope, start_ns=START)

    assert [line.target for line in found.timeline] == [None, "app", "other"]
    assert msgspec.json.decode(msgspec.json.encode(found), type=series.Series) == found
