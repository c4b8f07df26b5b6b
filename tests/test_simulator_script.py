from __future__ import annotations

import contextlib
import json
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamgauge.clock import MS, S
from streamgauge.errors import UsageError
from streamgauge.simulator import faults, models, script
from streamgauge.simulator.pack import END, GO, HANG, Send
from streamgauge.simulator.play import Player, Story
from streamgauge.simulator.voices import APIS
from streamgauge.simulator.voices.api import Asked
from streamgauge.simulator.wire import Chunked


def played(steps: list[object], api: str = "openai-chat", pace: float = 1.0) -> tuple[list[Send], Story]:
    """Every send of a script, and its story."""
    story = Story()
    voice = APIS[api].voice(Asked("m"), Random(1), story.counts)
    player = Player(APIS[api], voice, story, Chunked(), [], "req_1")
    player.pace = pace
    read = script.spread(script.read(json.dumps(steps)), models.words(Random(1)))
    return list(player.play(read)), story


def times(sends: list[Send]) -> list[tuple[float, str]]:
    return [(at / MS, kinds) for at, _, kinds, _ in sends]


def test_only_wait_moves_time_and_the_opening_comes_before_the_first_output():
    sends, story = played([["wait", 300], ["text", "a"], ["wait", 20], ["text", "b"], ["finish"]])
    assert times(sends) == [
        (300, "headers start"), (300, "text"), (320, "text"), (320, "finish usage done end"),
    ]  # fmt: skip
    assert sends[-1][3] == END
    assert story.outcome == "ok"


def test_a_script_without_ending_is_finished():
    sends, story = played([["text", "a"]])
    assert sends[-1][2].split() == ["finish", "usage", "done", "end"]
    assert story.finish == "stop"


def test_a_message_can_stay_open_after_its_terminal_events():
    sends, story = played([["text", "a"], ["finish"], ["stall"]])
    assert [send[3] for send in sends[-2:]] == [GO, HANG]
    assert story.outcome == "ok"


def test_merge_gathers_the_next_steps_into_one_write_at_the_last_ones_time():
    sends, _ = played(
        [["text", "a"], ["merge", 3], ["text", "b"], ["wait", 10], ["text", "c"], ["wait", 10], ["text", "d"]]
    )
    assert times(sends)[1:3] == [(0, "text"), (20, "text text text")]


def test_a_merge_that_is_never_full_is_sent_before_the_end():
    sends, _ = played([["merge", 5], ["text", "b"], ["text", "c"]])
    assert " ".join(kinds for _, _, kinds, _ in sends).split() == [
        "headers", "start", "text", "text", "finish", "usage", "done", "end",
    ]  # fmt: skip


def test_split_sends_one_event_in_pieces_and_only_one_of_them_makes_it_whole():
    sends, _ = played([["start"], ["split", 3, 7], ["text", "abc"], ["text", "next"]])
    assert times(sends)[1:5] == [(0, ""), (7, ""), (14, "text"), (14, "text")]
    assert b"".join(send[1] for send in sends[1:4]).count(b"abc") == 1


@pytest.mark.parametrize(
    ("api", "whole", "rest"), [("openai-chat", b"}\n\n", b"\r\n"), ("gemini", b"}\r\n\r", b"\n\r\n")]
)
def test_an_event_is_whole_where_its_blank_line_ends_and_the_end_of_its_chunk_comes_after(
    api: str, whole: bytes, rest: bytes
):
    sends, _ = played([["start"], ["split", 10_000, 1], ["text", "abc"], ["stall"]], api)
    where = [kinds for _, _, kinds, _ in sends].index("text")
    assert b"".join(data for _, data, _, _ in sends[: where + 1]).endswith(whole)
    assert b"".join(data for _, data, _, _ in sends[where + 1 :]) == rest


def test_what_is_held_leaves_before_an_event_that_is_split_and_before_bytes_outside_the_framing():
    said = [["lump", 100], ["text", "a"], ["wait", 5], ["split", 2], ["text", "b"], ["text", "c"], ["wire", "zz"]]
    sends, _ = played([["start"], *said, ["stall"]])
    assert [kinds for _, _, kinds, _ in sends if kinds] == ["headers start", "text", "text", "text", "wire"]


def test_lump_holds_events_to_the_end_of_their_window():
    steps = [["start"], ["lump", 100]]
    for _ in range(6):
        steps += [["wait", 30], ["text", "x"]]
    sends, _ = played(steps)
    assert times(sends)[1:] == [(100, "text text text"), (200, "text text text finish usage done end")]


def test_pace_stretches_every_wait():
    sends, _ = played([["wait", 100], ["text", "a"], ["wait", 10], ["text", "b"]], pace=1.5)
    assert times(sends)[1:3] == [(150, "text"), (165, "text")]


def test_usage_can_be_stated_and_left_out():
    sends, story = played([["text", "a"], ["usage", {"input": 7, "output": 99, "reasoning": 90}], ["finish"]])
    assert b'"completion_tokens":99' in sends[-1][1]
    assert story.usage_told
    sends, story = played([["text", "a"], ["usage", None], ["finish"]])
    assert b'"usage":{' not in sends[-1][1]
    assert not story.usage_told


def test_a_header_can_be_added_and_taken_away():
    sends, _ = played([["headers", {"content-type": "text/plain", "x-accel-buffering": "no", "openai-version": None}]])
    head = sends[0][1]
    assert b"content-type: text/plain\r\n" in head
    assert b"x-accel-buffering: no" in head
    assert b"openai-version" not in head


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nonsense", "not JSON"),
        ('{"text": 1}', "a list of"),
        ('[["wait", 1], ["speak"]]', "step 2: 'speak' is unknown; there are wait"),
        ('[["wait"]]', "step 1: 'wait': argument 1 must be a number of milliseconds"),
        ('[["wait", -1]]', "0 to 604800000"),
        ('[["wait", NaN]]', "number of milliseconds"),
        ('[["text", 5]]', "argument 1 must be a string"),
        ('[["drop", 1]]', "at most 0 arguments"),
        ('[["status", 99]]', "200 to 599"),
        ('[["headers", {"a": "b\\r\\nset-cookie: c"}]]', "line break"),
        ('["text"]', "is no step"),
        ('[["text", "a"], ["status", 500]]', "step 2: 'status' is a whole response"),
        ('[["usage", {"inptu": 1}]]', '"input"'),
    ],
)
def test_a_wrong_script_is_told_with_its_place(text: str, named: str):
    with pytest.raises(UsageError) as e:
        script.read(text)
    assert named in str(e.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_a_script_or_a_usage_error(value: object):
    with contextlib.suppress(UsageError):
        script.read(json.dumps(value))


@given(st.lists(st.sampled_from(sorted(script.STEPS)), max_size=8), st.sampled_from(sorted(APIS)))
def test_any_order_of_steps_plays_to_one_end(names: list[str], api: str):
    arguments: dict[str, list[object]] = {
        "wait": [5], "text": ["a"], "reasoning": ["r"], "tokens": [3, 1], "tool": ["f", {"a": 1}, {"pieces": 3}],
        "comment": ["c"], "raw": ["x"], "wire": ["y"], "merge": [2], "split": [2, 1], "lump": [10], "meant": ["ok"],
        "status": [500],
    }  # fmt: skip
    assume("status" not in names[1:])
    sends, _ = played([[name, *arguments.get(name, [])] for name in names], api)
    assert sends[-1][3] != GO
    assert all(send[3] == GO for send in sends[:-1])
    dues = [send[0] for send in sends]
    assert dues == sorted(dues)


# Models...


def test_a_parameterised_name_is_its_own_schedule():
    steps, events = models.answer(models.find("sim-t300-i20-n4") or models.Pace(0), 10**6, None, Random(1))
    made = list(steps)
    assert events == 4
    assert sum(s.ns for s in made if isinstance(s, script.Wait)) == (300 + 3 * 20) * MS
    assert sum(s.tokens for s in made if isinstance(s, script.Text)) == 4


def test_a_token_limit_cuts_reasoning_and_text_and_says_length():
    pace = models.find("sim-t1-i1-n10-r5")
    assert pace is not None
    made = list(models.answer(pace, 0, 7, Random(1))[0])
    assert sum(isinstance(s, script.Reasoning) for s in made) == 5
    assert sum(isinstance(s, script.Text) for s in made) == 2
    assert made[-1] == script.Finish("length")
    assert list(models.answer(pace, 0, 15, Random(1))[0])[-1] == script.Finish("stop")


def test_several_tokens_can_share_an_event():
    pace = models.find("sim-n10-k4")
    assert pace is not None
    made = [s for s in models.answer(pace, 0, None, Random(1))[0] if isinstance(s, script.Text)]
    assert [s.tokens for s in made] == [4, 4, 2]
    assert made[0].text.startswith(models.OPENING)


@pytest.mark.parametrize("name", ["sim-x", "simple", "sim-t", "sim-t1e3"])
def test_a_sim_name_that_does_not_read_is_no_model(name: str):
    assert models.find(name) is None


@pytest.mark.parametrize(
    ("name", "p50", "p95", "p99", "rate"),
    [
        ("gpt-4o-mini", 300, 600, 900, 50),
        ("claude-3-5-sonnet", 410, 800, 1000, 40),
        ("gemini-2.0-flash", 350, 700, 920, 45),
    ],
)
def test_each_provider_model_keeps_near_the_strategys_baseline(
    name: str, p50: float, p95: float, p99: float, rate: float
):
    pace, random = models.MODELS[name], Random(7)
    draws = sorted(models.ttft_ms(pace, 0, random) for _ in range(40_000))
    assert draws[20_000] == pytest.approx(p50, rel=0.06)
    assert draws[38_000] == pytest.approx(p95, rel=0.06)
    assert draws[39_600] == pytest.approx(p99, rel=0.2)
    gaps = [s.ns for s in models.answer(pace, 0, None, random)[0] if isinstance(s, script.Wait)][2:]
    assert pace.per_event * S / (sum(gaps) / len(gaps)) == pytest.approx(rate, rel=0.15)


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_a_healthy_model_passes_the_strategys_criteria_with_room(name: str):
    pace, random = models.MODELS[name], Random(3)
    for chars in (50, 500, 5000):
        draws = [models.ttft_ms(pace, chars, random) for _ in range(20_000)]
        mean = sum(draws) / len(draws)
        deviation = (sum((d - mean) ** 2 for d in draws) / len(draws)) ** 0.5
        assert deviation / mean < 0.36
        assert sum(d > 1000 for d in draws) / len(draws) < 0.0125
        assert max(draws) < 2000


def test_a_long_prompt_comes_a_little_later():
    pace = models.MODELS["gpt-4o-mini"]
    assert models.ttft_ms(pace, 10_000, Random(1)) - models.ttft_ms(pace, 0, Random(1)) == pytest.approx(40)
    assert models.ttft_ms(pace, 10**9, Random(1)) - models.ttft_ms(pace, 0, Random(1)) == pytest.approx(200)


# Faults...


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nonsense=0.1", "'nonsense' is unknown; there are login"),
        ("drop=2", "from 0 to 1"),
        ("drop=nan", "from 0 to 1"),
        ("stall=0.1:5", None),
        ("stall=0.1:soon", "neither a duration"),
        ("429=0.1:retry-after=2", None),
        ("200=0.1", "unknown"),
    ],
)
def test_a_wrong_fault_is_told(text: str, named: str | None):
    if named is None:
        faults.parse(text)
        return
    with pytest.raises(UsageError) as e:
        faults.parse(text)
    assert named in str(e.value)


def test_faults_strike_at_their_rates_and_never_two_at_once():
    chosen = [faults.parse("drop=0.1"), faults.parse("stall=0.3:5s")]
    random = Random(5)
    picked = [faults.pick(chosen, random) for _ in range(20_000)]
    assert sum(f is chosen[0] for f in picked) / 20_000 == pytest.approx(0.1, abs=0.01)
    assert sum(f is chosen[1] for f in picked) / 20_000 == pytest.approx(0.3, abs=0.015)


def test_a_fault_amid_the_answer_strikes_after_half_of_it_or_where_it_is_told_to():
    def outputs(text: str) -> int:
        steps, events = models.answer(models.Pace(1, least_tokens=10, most_tokens=10), 0, None, Random(1))
        return sum(isinstance(s, script.Text) for s in faults.rewrite(faults.parse(text, rated=False), steps, events))

    assert outputs("drop") == 5
    assert outputs("drop:at=0") == 0
    assert outputs("drop:at=3") == 3
    assert outputs("stall:5s") == 10
