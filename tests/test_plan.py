"""Load shapes are pure: their tests are tables of numbers."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.plan import Hold, Lane, pick, share

S = 1_000_000_000


@pytest.mark.parametrize(
    ("level", "spread_s", "at_s", "wanted"),
    [
        (4, 0, 0.0, 4),
        (4, 0, -0.1, 0),
        (100, 2, 0.0, 1),
        (100, 2, 1.0, 51),
        (100, 2, 2.0, 100),
        (100, 2, 60.0, 100),
        (0, 2, 1.0, 0),
    ],
)
def test_a_hold_wants_its_level_after_the_spread(level: int, spread_s: float, at_s: float, wanted: int) -> None:
    assert Hold(level, round(spread_s * S)).wanted(round(at_s * S)) == wanted


def test_slots_that_are_there_already_stay_and_only_new_ones_are_spread() -> None:
    hold = Hold(10, 9 * S)
    assert [hold.rises(slot, 1) // S for slot in range(10)] == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]


@given(st.integers(0, 100_000), st.integers(1, 64))
def test_shards_sum_to_the_whole_and_differ_by_at_most_one(total: int, shards: int) -> None:
    parts = [share(total, shard, shards) for shard in range(shards)]
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


def test_targets_take_turns_and_see_the_same_prompts_in_the_same_order() -> None:
    lane = Lane(("a", "b"), ("short", "medium", "long"), Hold(4))
    picks = [pick(lane, k, seed=5) for k in range(60)]
    assert [target for target, _ in picks] == ["a", "b"] * 30
    assert [prompt for target, prompt in picks if target == "a"] == [p for target, p in picks if target == "b"]


def test_each_block_holds_each_prompt_length_once_in_changing_order() -> None:
    lane = Lane(("a",), ("short", "medium", "long"), Hold(4))
    names = [pick(lane, k, seed=5)[1] for k in range(300)]
    blocks = [tuple(names[i : i + 3]) for i in range(0, 300, 3)]
    assert all(sorted(block) == ["long", "medium", "short"] for block in blocks)
    assert len(set(blocks)) > 3


def test_two_lanes_of_one_target_each_ask_the_same_prompts() -> None:
    one, two = (Lane((name,), ("short", "long"), Hold(4)) for name in ("a", "b"))
    assert [pick(one, k, 9)[1] for k in range(50)] == [pick(two, k, 9)[1] for k in range(50)]
    assert Counter(pick(one, k, 9)[1] for k in range(50)) == {"short": 25, "long": 25}
