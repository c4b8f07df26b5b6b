"""Lengths of time in sentences."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.spans import span

UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (0.42, "0.42 s"), (9.4, "9.4 s"), (9.6, "9.6 s"), (9.96, "10 s"), (119, "119 s"), (120, "2 min"),
     (150, "2.5 min"), (900, "15 min"), (3_599, "1 h"), (3_900, "1 h 05 min"), (7_200, "2 h"), (35_999, "10 h"),
     (6_002 * 60, "100 h"), (12 * 86_400, "12 d")],
)  # fmt: skip
def test_a_length_of_time_is_told_in_its_own_unit(seconds: float, told: str) -> None:
    assert span(seconds) == told


@given(st.floats(1, 365 * 86_400))
def test_what_is_told_is_never_off_by_more_than_a_twentieth(seconds: float) -> None:
    told = sum(float(n.replace(",", "")) * UNITS[unit] for n, unit in re.findall(r"([\d.,]+) (\w+)", span(seconds)))
    assert told == pytest.approx(seconds, rel=0.05)
    assert len(span(seconds)) <= 11
