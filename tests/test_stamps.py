"""The benchmark that judges our stamps judges rightly: made Samples against made writes."""

from __future__ import annotations

import pytest
from bench.stamps import fit, slack_holds, stamps
from bench.truth_log import Answer

from made import MS, START, made
from streamgauge.sample import Sample


def written(*ms: float) -> Answer:
    """Writes that begin so long after START and take 0.1 ms each; the last holds no text."""
    return Answer(START, START, 0, tuple((START + round(at * MS), START + round((at + 0.1) * MS)) for at in ms))


def read(first_ms: float, *gaps_ms: float, **facts: float) -> Sample:
    """A Sample whose reads with text ended so; `facts` in ns."""
    last = START + round((first_ms + sum(gaps_ms)) * MS)
    return made(first_ms, gaps_ms=gaps_ms, last_token_ns=last, **facts)


def test_stamps_are_the_first_token_and_the_gaps_added_up() -> None:
    assert (stamps(read(300, 20, 20.5)) - START).tolist() == [300 * MS, 320 * MS, round(340.5 * MS)]


def test_a_stamp_inside_its_write_is_beyond_by_nothing() -> None:
    found = fit(read(300.05, 20, 20), written(300, 320, 340, 345))
    assert found.beyond.tolist() == [0, 0, 0]
    assert (found.several, found.doubled) == (0, 0)


def test_a_stamp_outside_is_beyond_by_what_lies_between() -> None:
    found = fit(read(299, 22, 20), written(300, 320, 340, 345))
    assert (found.beyond / MS).tolist() == pytest.approx([1.0, 0.9, 0.9])


def test_one_read_a_write_is_matched_in_order_however_far_off() -> None:
    found = fit(read(330, 20, 20), written(300, 320, 340, 345))
    assert (found.beyond / MS).tolist() == pytest.approx([29.9, 29.9, 29.9])


def test_a_read_of_several_writes_belongs_to_the_last_of_them() -> None:
    found = fit(read(320.05, 40), written(300, 320, 340, 360, 365))
    assert found.beyond.tolist() == [0, 0]
    assert (found.several, found.doubled) == (2, 0)


def test_a_last_read_that_the_end_of_the_message_ended_belongs_to_it() -> None:
    found = fit(read(300.05, 20, 25, last_output_slack_ns=30 * MS), written(300, 320, 340, 345))
    assert found.beyond.tolist() == [0, 0, 0]


def test_two_stamps_at_one_write_are_told() -> None:
    found = fit(read(300.05, 1), written(300, 320, 340, 345))
    assert found.doubled == 1


def test_slack_holds_where_the_write_lies_in_it() -> None:
    answer = written(300, 320, 340, 345)
    assert slack_holds(read(300, 20, 20), answer) == []
    assert slack_holds(read(320, 20, first_token_slack_ns=21 * MS), answer) == [True]
    assert slack_holds(read(320, 20, first_token_slack_ns=19 * MS), answer) == [False]
    assert slack_holds(read(300, 20, 25, last_output_slack_ns=10 * MS), answer) == [True]
