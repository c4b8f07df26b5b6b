"""What rules find in made Samples: each is named where the evidence is, and nothing where it is not."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import MS, START, collected, made
from streamgauge.connections import TakingClosings
from streamgauge.findings import RULES, Finding, RunFacts, find
from streamgauge.findings.cuts import nominal
from streamgauge.findings.flow import flow_of
from streamgauge.sample import Closer, Closing, Outcome, Sample
from streamgauge.summary import scope_of


def found(samples: Iterable[Sample]) -> dict[str, Finding]:
    columns = collected(samples).columns()
    return {one.name: one for one in find(RunFacts(columns, scope_of(columns), START)).findings}


def flow(reads: list[tuple[float, int]], *, sent_ms: float = 0.0, slack_ms: float = 0.0) -> str:
    """The shape of an answer whose text came in reads (ms, events)."""
    times = [at for at, _ in reads]
    return flow_of(
        events=sum(n for _, n in reads),
        gaps_us=array("I", [round(1_000 * (b - a)) for a, b in pairwise(times)]),
        wait_ms=times[0] - sent_ms,
        span_ms=times[-1] - times[0],
        slack_ms=slack_ms,
    ).shape


def every(ms: float, n: int, events: int) -> list[tuple[float, int]]:
    return [(300 + ms * k, events) for k in range(n)]


@pytest.mark.parametrize(
    ("reads", "shape"),
    [
        (every(20, 40, 1), "singly"),
        (every(20, 40, 3), "singly"),  # three tokens a step, as the model makes them
        (every(150, 40, 1), "singly"),  # a slow model
        (every(210, 5, 10), "lumps"),
        ([(300, 6), (344, 2), (564, 11), (714, 8)], "lumps"),  # as HAProxy begins
        ([(300, 10), (560, 13), (820, 13), (880, 4)], "lumps"),  # as nginx ends
        ([x for at in (300, 550, 800, 1_050) for x in ((at, 60), (at + 0.2, 10))], "lumps"),  # two segments each
        ([(300, 40)], "at_once"),
        ([(300, 20), (301, 20)], "at_once"),
        ([(30, 20), (31, 20)], "unclear"),  # so soon that nobody held it back
        ([(300, 7)], "unclear"),
        ([(300, 14), (560, 4)], "unclear"),  # one distance is none
        ([(sum(gaps), 8) for gaps in accumulate([g] for g in (300, 110, 900, 150, 500, 1_300, 240))], "singly"),
    ],
)
def test_the_shape_of_an_answer_is_told_by_its_reads(reads: list[tuple[float, int]], shape: str) -> None:
    assert flow(reads) == shape


def test_nothing_is_told_of_an_answer_that_our_own_lateness_may_have_lumped() -> None:
    assert flow(every(210, 5, 10), slack_ms=80) == "unclear"
    assert flow([(300, 40)], slack_ms=80) == "unclear"


def answer(n: int, reads: list[tuple[float, int]], **facts: object) -> Sample:
    """The n-th request, with text in reads (ms from due, events)."""
    gaps = [b - a for (a, _), (b, _) in pairwise(reads)]
    return made(
        reads[0][0], n=n, due_ms=1_000.0 * n, writes_ms=reads[-1][0] - reads[0][0], gaps_ms=gaps,
        text_events=sum(k for _, k in reads), bytes_in=300 * sum(k for _, k in reads), **facts,
    )  # fmt: skip


def test_lumps_are_a_finding_where_enough_answers_show_them() -> None:
    lumpy, plain = every(210, 5, 10), every(20, 40, 1)
    some = found([answer(n, lumpy if n % 4 == 0 else plain) for n in range(40)])
    assert some["lumps"].evidence.k == 10
    assert some["lumps"].evidence.n == 40
    assert some["lumps"].evidence.values["every_ms"] == 210
    assert (some["lumps"].evidence.from_s, some["lumps"].evidence.to_s) == (0, 36)
    assert some["lumps"].evidence.samples[0] == f"{0:032x}"
    assert found([answer(n, lumpy if n < 2 else plain) for n in range(40)]) == {}
    assert found([answer(n, plain) for n in range(40)]) == {}


def test_who_holds_tokens_back_is_guessed_by_time_and_size_or_not_at_all() -> None:
    def told(ms: float, events: int) -> Finding:
        return found([answer(n, every(ms, 6, events)) for n in range(6)])["lumps"]

    assert told(210, 5).remedy.startswith("HAProxy")
    assert told(300, 14).remedy.startswith("nginx")
    assert "the app itself" in told(300, 7).cause
    assert "the app or a proxy holds them back" in told(300, 7).words


def test_an_early_first_byte_before_a_held_answer_is_told() -> None:
    whole = [(900.0, 40)]
    samples = [answer(n, whole, first_byte_ns=START + 1_000 * n * MS + 3 * MS) for n in range(6)]
    assert "900 ms after sending, though the first byte comes after 3 ms" in found(samples)["answer_at_once"].words


def test_a_compressed_answer_that_comes_whole_is_the_compressions_doing() -> None:
    samples = [answer(n, [(900.0, 40)], encoded=True) for n in range(6)]
    assert list(found(samples)) == ["compression_merges"]


# Time-outs


def died(n: int, age_s: float, silence_s: float, *, due_s: float | None = None, **facts: object) -> Sample:
    due = due_s if due_s is not None else 7.0 * n
    first = 100.0
    return made(
        first, n=n, due_ms=due * 1e3, outcome=Outcome.DROPPED, writes_ms=(age_s - silence_s) * 1e3 - first,
        end_ms=age_s * 1e3, **facts,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("deaths", "words"),
    [
        ([(60.0, 60.0 - 5 * k) for k in range(1, 8)], "7 of 8 streams ended at 60.0 s: a total time-out of 60 s"),
        (
            [(65.0 + 9 * k, 60.0) for k in range(7)],
            "7 of 8 streams ended after 60.0 s without output: an idle time-out",
        ),
        ([(60.05, 59.9)] * 7, "7 of 8 streams ended at 60.0 s: an idle or total time-out of 60 s: proxy_read_timeout"),
        ([(60.0, 0.02)] * 7, "7 of 8 streams ended at 60.0 s: a total time-out of 60 s: the route's timeout"),
    ],
)
def test_equal_ages_and_equal_silences_are_told_apart(deaths: list[tuple[float, float]], words: str) -> None:
    told = found([died(n, *one) for n, one in enumerate(deaths)] + [made(100.0, n=99)])
    assert list(told) == ["cut_at_equal_ages"]
    assert told["cut_at_equal_ages"].words.startswith(words)


@pytest.mark.parametrize(
    "samples",
    [
        [died(n, 60.0, 0.02) for n in range(2)],
        [died(n, 30.0 + 3 * n, 0.02) for n in range(8)],
        [died(n, 60.0, 20.0, due_s=0.01 * n) for n in range(8)],  # one restart
        [died(n, 0.5, 0.02) for n in range(8)],
        [died(n, 60.0, 0.02) for n in range(8)] + [made(100.0, n=50, writes_ms=80_000)],  # outlived
        [died(n, 60.0, 0.02) for n in range(8)] + [made(100.0, n=50 + n, writes_ms=59_930) for n in range(8)],
        [made(100.0, n=n, outcome=Outcome.STALL_TIMEOUT, end_ms=60_100) for n in range(8)],  # ours
        [made(None, n=n, outcome=Outcome.FIRST_TOKEN_TIMEOUT, end_ms=60_000) for n in range(8)],
    ],
    ids=["two", "all ages", "at one moment", "too young", "outlived", "others end then", "our stall", "our first"],
)
def test_deaths_that_no_time_out_explains_are_not_called_one(samples: list[Sample]) -> None:
    assert "cut_at_equal_ages" not in found(samples)


def test_a_gateway_time_out_before_the_answer_counts_with_its_age() -> None:
    refused = {"outcome": Outcome.HTTP_ERROR, "http_status": 504, "answered_by": "envoy", "end_ms": 15_000.0}
    told = found([made(n=n, due_ms=3_000.0 * n, **refused) for n in range(6)])  # type: ignore[arg-type]
    assert "6 of 6 streams ended at 15.0 s: an idle or total time-out of 15 s" in told["cut_at_equal_ages"].words
    broken = found([made(n=n, due_ms=3_000.0 * n, **{**refused, "http_status": 500}) for n in range(6)])  # type: ignore[arg-type]
    assert "cut_at_equal_ages" not in broken


@pytest.mark.parametrize(("seconds", "text"), [(60.02, "60"), (59.8, "60"), (1.75, "2"), (2.05, "2"), (2.5, "2.5")])
def test_the_number_that_was_set_is_a_round_one_if_one_is_near(seconds: float, text: str) -> None:
    assert nominal(seconds) == text


# Connections


def asked(*carried: int, at_once: int = 1, gap_ms: float = 100.0, **facts: object) -> list[Sample]:
    """One connection after the other in each of `at_once` lanes, carrying so many requests of 50 ms each."""
    found_ = []
    for one in range(at_once):
        conns = [(conn, k) for conn, requests in enumerate(carried) for k in range(requests)]
        for place, (conn, k) in enumerate(conns):
            which = {"conn": at_once * conn + one, "conn_requests": k, "slot": one}
            found_.append(made(20.0, n=len(found_), due_ms=gap_ms * place, writes_ms=30.0, **which, **facts))
    return found_


def test_connections_that_are_never_used_again_are_found_and_used_ones_are_not() -> None:
    told = found(asked(*[1] * 20, at_once=2))
    assert list(told) == ["no_keep_alive"]
    assert told["no_keep_alive"].words.startswith("each of 40 requests needed a connection of its own")
    assert found(asked(20, at_once=4)) == {}
    assert found(asked(1, at_once=40)) == {}, "as many at once as there were"


def test_a_limit_by_number_is_told_and_equal_shares_of_one_connection_a_slot_are_none() -> None:
    assert (
        "12 of 14 connections were closed after 5 requests" in found(asked(*[5] * 7, at_once=2))["keep_alive_cut"].words
    )
    assert found(asked(100, at_once=4)) == {}
    assert found(asked(*[1_000] * 3)) == {}, "two in three thousand"


def test_connections_of_failed_requests_are_not_the_servers_doing() -> None:
    assert list(found(asked(*[1] * 20, outcome=Outcome.STREAM_ERROR))) == ["server_errors"]


def test_connections_that_we_ended_are_not_the_servers_doing() -> None:
    columns = collected(asked(*[4] * 3, *[1] * 12)).columns()
    cases: tuple[tuple[Closer, list[str]], ...] = (("us", []), ("server", ["keep_alive_cut"]))
    for by, expected in cases:
        ends = TakingClosings()
        for n in range(15):
            ends.add(
                Closing(worker=0, conn=n, target="app", peer="", opened_ns=START, idle_ns=None,
                        closed_ns=START + n * MS, carried=1, by=by)
            )  # fmt: skip
        facts = RunFacts(columns, scope_of(columns), START, closings=ends.closings())
        assert [one.name for one in find(facts).findings] == expected


def test_requests_that_met_a_dead_connection_are_counted() -> None:
    told = found(asked(*[4] * 12, retried=1))["keep_alive_cut"]
    assert "requests met one that was just gone" in told.words
    assert told.evidence.values["retried"] == 48


# All of them


SAMPLES = st.builds(
    made,
    st.one_of(st.none(), st.floats(0, 5_000)),
    n=st.integers(0, 200),
    writes_ms=st.floats(0, 100_000),
    outcome=st.sampled_from(Outcome),
    text_events=st.integers(0, 60),
    gaps_ms=st.lists(st.floats(0, 4_000), max_size=12),
    slack_ms=st.floats(0, 90),
    conn=st.integers(-1, 8),
    conn_requests=st.integers(0, 9),
    http_status=st.sampled_from([None, 200, 401, 429, 500, 503, 504]),
    phase=st.sampled_from(["hold", "hold", "reference", "repeats"]),
    prompt=st.sampled_from(["short", "repeated"]),
    instance=st.sampled_from(["", "web-1", "web-2"]),
    cached_tokens=st.sampled_from([None, 0, 12]),
    due_ms=st.one_of(st.none(), st.floats(0, 30_000)),
    encoded=st.booleans(),
    bytes_in=st.integers(0, 10**7),
)


@given(st.lists(SAMPLES, max_size=60))
def test_whatever_came_each_finding_is_a_rules_own_and_has_its_evidence(samples: list[Sample]) -> None:
    for one in found(samples).values():
        assert one.name in RULES
        assert 3 <= one.evidence.k <= one.evidence.n
        assert 1 <= len(one.evidence.samples) <= 5
        assert set(one.evidence.samples) <= {sample.id for sample in samples}
        assert all(value is None or np.isfinite(value) for value in one.evidence.values.values())
        assert all((one.words, one.cause, one.check, one.remedy))
