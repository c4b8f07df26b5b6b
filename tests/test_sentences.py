"""What a team lead reads. The words are the contract here: each case is one that a report shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import made, run_of
from streamgauge.sample import Outcome, Sample
from streamgauge.shares import share_of
from test_verdict import P95, judged

SLOW = [2_000.0] * 40 + [100.0] * 360
SHUFFLED = [SLOW[(i * 147) % 400] for i in range(400)]
"""147 and 400 share no divisor: each value once, the slow ones spread out."""


def failing(n: int, of: int) -> list[Sample]:
    return [made(100, n=i, outcome=Outcome.DROPPED if (i * 7) % of < n else Outcome.OK) for i in range(of)]


@pytest.mark.parametrize(
    ("text", "samples", "said"),
    [
        (P95, run_of([640.0] * 400), "none of 400 chats waits over 1 s: p95 is 640 ms, 95 % sure it is below 640 ms"),
        (P95, run_of(SHUFFLED), "1 chat in 10 waits over 1 s: p95 is 2,000 ms, 95 % sure it is above 2,000 ms"),
        (P95, run_of([3_000.0] * 100), "every chat waits over 1 s: p95 is 3,000 ms, 95 % sure it is above 3,000 ms"),
        (
            P95,
            run_of([640.0] * 40),
            "undecided: none of 40 chats waits over 1 s: p95 is 640 ms, 40 requests are too few to bound it; "
            "needs about 19 more requests",
        ),
        (P95, run_of([100.0] * 93 + [None] * 7), "p95 not reached: 7 of 100 gave no token"),
        (
            P95,
            run_of([2_000.0] * 20 + [640.0] * 72 + [None] * 3),
            "1 chat in 4.1 waits over 1 s or fails: p95 is 2,000 ms, 95 % sure it is above 2,000 ms",
        ),
        (P95, [], "undecided: nothing was measured"),
        (
            "ttft_ms.p50 < 500",
            run_of([640.0] * 60),
            "every chat waits over 500 ms: p50 is 640 ms, 95 % sure it is above 640 ms",
        ),
        ("drops == 0", failing(2, 100), "2 streams were cut off half-way"),
        (
            "drop_rate < 0.005",
            failing(8, 400),
            "1 request in 50 is cut off half-way (8 of 400): the rate is 2 %, 95 % sure it is above 1 %",
        ),
        (
            "error_rate < 0.005",
            failing(0, 400),
            "undecided: none of 400 requests fails: the rate is 0 %, 95 % sure below 0.75 %; "
            "needs about 200 more requests",
        ),
        (
            "output_rate.p50 > 10",
            [made(n=i, writes_ms=6_400) for i in range(60)],
            "every request is under 10 tok/s: p50 is 5 tok/s, 95 % sure it is below 5 tok/s",
        ),
        ("concurrency_held >= 100", run_of([100.0] * 10), "1 stream, asked for at least 100 streams"),
        ("drops == 0", failing(0, 100), "no stream was cut off half-way"),
        ("drops == 0", failing(1, 100), "1 stream was cut off half-way"),
        ("ttft_ms.cv < 0.5", run_of([100.0]), "undecided: 1 request is too few to bound it"),
        ("e2e_ms.p95 < 1000", failing(50, 100), "p95 not reached: 50 of 100 gave no whole answer"),
        (
            "ttft_degradation <= 1.5",
            [*run_of([100.0] * 30), *run_of([100.0] * 6, phase="reference")],
            "undecided: too few requests, here or in the reference, to have a p95",
        ),
    ],
)
def test_a_verdict_is_said_in_words(text, samples, said):
    assert judged(text, samples).sentence == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "0 %"), (0.61, "61 %"), (1.5, "150 %"), (2.0, "200 %"), (2.04, "2.0 times"), (6.1, "6.1 times"),
     (9.96, "10 times"), (1234.5, "1,234 times"), (-0.25, "-25 %")],
)  # fmt: skip
def test_a_share_far_above_the_whole_is_told_in_times(share, said):
    assert share_of(share) == said
    assert share_of(share, "it") == (f"{said} it" if "times" in said else f"{said} of it")


def test_a_share_of_less_than_one_in_five_is_told_with_a_decimal():
    assert judged(P95, run_of([2_000.0, 100.0, 100.0, 2_000.0, 100.0] * 40)).sentence.startswith("1 chat in 2.5 waits")


@given(
    st.sampled_from(
        [P95, "ttft_ms.cv < 0.5", "error_rate < 0.005", "itl_ms.p99 < 50", "stalls == 0", "e2e_ms.max < 9"]
    ),
    st.lists(st.one_of(st.none(), st.floats(0, 1e7)), max_size=120),
)
def test_every_sentence_is_one_line_of_fewer_than_240_signs(text, ttfts):
    said = judged(text, run_of(ttfts)).sentence

    assert 0 < len(said) < 240
    assert "\n" not in said
    assert "None" not in said
    assert "inf" not in said
