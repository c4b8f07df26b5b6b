"""Numbers and outcomes as people read them: tables of what is said."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.metrics import METRICS
from streamgauge.reports import wording as say
from streamgauge.sample import Outcome


@pytest.mark.parametrize(
    ("value", "text"),
    [(1240.4, "1,240 ms"), (0.42, "0.4 ms"), (9.96, "10 ms"), (0, "0 ms"), (99_999, "99,999 ms"), (180_000, "180 s"),
     (None, "n/a"), (math.nan, "n/a"), (math.inf, "never")],
)  # fmt: skip
def test_times_in_ms(value: float | None, text: str):
    assert say.milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0024, "0.24 %"), (0.05, "5 %"), (0.0125, "1.2 %"), (0.5, "50 %"), (1.0, "100 %"), (0.9996, "99.96 %"),
     (0.00001, "under 0.01 %"), (0.0, "0 %"), (None, "n/a")],
)  # fmt: skip
def test_shares_in_percent_where_a_small_one_never_reads_as_none(value: float | None, text: str):
    assert say.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(8.2, "8.2 s"), (3.0, "3 s"), (12.4, "12 s"), (184, "3m04s"), (3_900, "1h05m"), (59.97, "1m00s")],
)
def test_lengths_of_time(value: float, text: str):
    assert say.seconds(value) == text


@pytest.mark.parametrize(
    ("args", "text"),
    [((49.3, "tok/s", "output_rate"), "49 tok/s"), ((8.27, "tok/s", "output_rate"), "8.3 tok/s"),
     ((0.0024, "", "error_rate"), "0.24 %"), ((0.42, "", "ttft_ms", "cv"), "42 %"),
     ((1.46, "x", "ttft_degradation"), "1.46 ×"),
     ((3.0, "", "drops"), "3"), ((99.5, "streams", "concurrency_held"), "99.5 streams"),
     ((87.25, "MB/h", "heap"), "87.2 MB/h")],
)  # fmt: skip
def test_values_carry_the_unit_their_metric_wants(args: tuple[float, str, str], text: str):
    assert say.amount(*args) == text


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [(999.7, 1000, "999.7 ms"), (1000.0004, 1000, "1,000.0004 ms"), (1000, 1000, "1,000 ms")],
)
def test_a_value_beside_its_limit_reads_differently_unless_they_are_equal(value: float, limit: float, text: str):
    assert say.beside(value, limit, "ms") == text


def test_a_rate_just_above_its_limit_shows_it():
    assert say.beside(0.005003, 0.005, "", "error_rate") != say.amount(0.005, "", "error_rate")


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(1130, 1370, "1,130 to 1,370 ms"), (None, 1370, "at most 1,370 ms"), (1130, None, "at least 1,130 ms"),
     (1130, math.inf, "at least 1,130 ms"), (None, None, "")],
)  # fmt: skip
def test_intervals(low: float | None, high: float | None, text: str):
    assert say.interval(low, high, "ms") == text


def test_an_interval_shows_that_it_has_a_width():
    assert say.interval(44.81, 45.3, "tok/s", "output_rate") == "44.8 to 45.3 tok/s"
    assert say.interval(100, 100, "streams", "concurrency_held") == "100 to 100 streams"


def test_money_says_when_it_is_unknown():
    assert [say.money(v) for v in (0.65, 0.004, 0, 1240.5, None)] == [
        "$0.65",
        "$0.004",
        "$0.00",
        "$1,240.50",
        "cost unknown",
    ]


def test_a_criterion_in_words():
    assert say.requirement("ttft_ms", "p95", "<", 1000, "ms") == "TTFT p95 < 1,000 ms"
    assert say.requirement("error_rate", None, "<", 0.005, "") == "error rate < 0.5 %"
    assert say.requirement("ttft_ms", "cv", "<", 0.5, "") == "TTFT spread < 50 %"
    assert say.requirement("concurrency_held", None, ">=", 100, "streams") == "concurrency held ≥ 100 streams"


def test_every_outcome_is_explained_in_a_sentence_with_a_next_step():
    assert set(say.OUTCOMES) == set(Outcome)
    for what, next_step in say.OUTCOMES.values():
        assert what.endswith(".")
        assert next_step.endswith(".")
        assert len(what) < 100


def test_an_outcome_of_a_newer_version_explains_itself():
    assert say.explain("melted_down").what == "The request ended in melted down."


def test_every_verdict_has_a_sign_of_its_own():
    assert len({sign.mark for sign in say.SIGNS.values()}) == len(say.SIGNS) == 4


def test_every_metric_has_a_name_without_underscores():
    assert not [name for name in METRICS if "_" in say.metric_name(name)]


@given(st.text(), st.integers(1, 200))
def test_plain_text_is_one_short_line_that_moves_nothing(text: str, limit: int):
    line = say.plain(text, limit)
    assert len(line) <= limit
    line.encode()
    for char in line:
        assert unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(char) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    assert say.plain(line, limit) == line


def test_plain_text_keeps_letters_of_every_script_and_emoji():
    words = "Größe 漢字 עברית عربى 👩‍💻 ✓"
    assert say.plain(words) == words


@given(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(sorted(METRICS)))
def test_every_number_has_a_text(value: float, metric: str):
    text = say.amount(value, METRICS[metric].unit, metric)
    assert text
    assert "nan" not in text
    assert "inf" not in text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("step_ms", 760.0, "step 760 ms"),
        ("mb_per_h", 877.87, "878 MB/h"),
        ("limit_in_h", 2.5, "limit in 2.5 h"),
        ("kb_per_request", 33.03, "33 KB a request"),
        ("cheaper_usd_per_1000", 0.11, "cheaper $0.11 for 1,000"),
        ("let_through_per_s", 50.0, "let through 50 a second"),
        ("age_min_s", 60.02, "age min 1m00s"),
        ("error_rate", 0.07, "error rate 7 %"),
        ("instances", 3.0, "instances 3"),
    ],
)
def test_a_number_of_the_evidence_has_its_unit(name: str, value: float, text: str):
    assert say.fact(name, value) == text


def test_memory_that_rises_without_end_is_told_by_yes_and_no():
    assert say.requirement("memory_unbounded", None, "==", 0.0, "") == "memory rising without end = no"
    assert say.amount(1.0, "", "memory_unbounded") == "yes"
