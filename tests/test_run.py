"""The parent of a run: when the load must stop, and that whatever stops it leaves what was measured."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hands import MS, PROMPTS, S, target
from streamgauge.clock import FakeClock, SystemClock
from streamgauge.control import Brief, Report
from streamgauge.errors import StorageError
from streamgauge.guard import Guard, Limits
from streamgauge.journal import Journal
from streamgauge.load import Load, workers_for
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.run import Began, Ending, conduct
from streamgauge.sample import Outcome, Sample, read_records
from streamgauge.simulator import Simulator, start
from streamgauge.suite.folder import read_story
from streamgauge.target import Target

OK, FAIL, LATE = Outcome.OK, Outcome.HTTP_ERROR, Outcome.FIRST_TOKEN_TIMEOUT


def brief(
    outcome: Outcome = OK, *, of: str = "app", phase: str = "hold", status: int | None = 200, **more: Any
) -> Brief:
    values: dict[str, Any] = {
        "target": of, "phase": phase, "outcome": outcome, "http_status": status, "ttft_ns": None, "service_ns": None,
        "output_tokens": None, "input_tokens": None, "text_events": 0, "error": None, "end_ns": 0, **more,
    }  # fmt: skip
    return Brief(**values)


def guard(*briefs: Brief, **limits: Any) -> Guard:
    made = Guard(Limits(**limits), frozenset({"app", "other"}), ("warmup",))
    for one in briefs:
        made.saw(one)
    return made


@pytest.mark.parametrize(
    ("briefs", "stops"),
    [
        pytest.param([brief(FAIL, status=500)] * 19, False, id="19 in a row"),
        pytest.param([brief(FAIL, status=500)] * 20, True, id="20 in a row"),
        pytest.param([brief(LATE)] * 20, True, id="20 without a status of failure"),
        pytest.param([brief(FAIL, status=500)] * 10 + [brief(FAIL, status=502)] * 19, False, id="another status"),
        pytest.param([brief(FAIL)] * 19 + [brief(LATE)] * 19, False, id="another outcome"),
        pytest.param([brief(FAIL)] * 19 + [brief()] + [brief(FAIL)] * 19, False, id="one that was good"),
        pytest.param([brief(FAIL), brief(FAIL, of="other")] * 19, False, id="19 each of two targets"),
        pytest.param([brief(FAIL), brief(of="other")] * 20, True, id="another target's successes do not help"),
        pytest.param([brief(FAIL), brief(Outcome.CANCELLED)] * 20, True, id="cancelled ones do not count"),
        pytest.param([brief(FAIL), brief(Outcome.SHED)] * 20, True, id="shed ones do not count"),
        pytest.param([brief(Outcome.SHED)] * 40, False, id="only shed ones"),
        pytest.param([brief(FAIL, phase="warmup")] * 40, False, id="warm-up"),
        pytest.param([brief(FAIL, phase="warmup")] * 19 + [brief(FAIL)] * 19, False, id="warm-up and 19"),
    ],
)
def test_the_load_stops_after_20_equal_failures_in_a_row(briefs: list[Brief], stops: bool) -> None:
    found = guard(*briefs).hopeless(100 * S, {})
    assert list(found) == (["app"] if stops else [])


@pytest.mark.parametrize("phase", ["hold", "warmup"])
@pytest.mark.parametrize(("silence_s", "stops"), [(9.9, False), (10, True)])
def test_a_target_that_ever_succeeded_is_given_10_s_of_silence(phase: str, silence_s: float, stops: bool) -> None:
    made = guard(brief(phase=phase), *[brief(FAIL, status=503)] * 25)
    found = made.hopeless(100 * S, {"app": 100 * S - round(silence_s * S), "other": 100 * S})
    assert found == ({"app": "app: 25 times http_error (503) in a row"} if stops else {})


@pytest.mark.parametrize(
    ("limits", "open_streams", "why"),
    [
        ({}, 1_000, None),
        ({"requests": 10}, 6, None),
        ({"requests": 10}, 7, "max_requests = 10 reached"),
        ({"tokens": 61}, 0, None),
        ({"tokens": 60}, 0, "max_tokens = 60 reached (60 tokens)"),
        ({"usd": 0.01, "usd_per_mtok": {"app": (100.0, 200.0)}}, 0, None),
        ({"usd": 0.01, "usd_per_mtok": {"app": (100.0, 250.0)}}, 0, "max_usd = 0.01 reached (0.01 USD)"),
        ({"usd": 0.01, "usd_per_mtok": {"other": (1e9, 1e9)}}, 0, None),
    ],
)
def test_a_hard_stop_strikes_when_it_is_reached(limits: dict[str, Any], open_streams: int, why: str | None) -> None:
    counted = brief(input_tokens=20, output_tokens=10)
    by_events = brief(text_events=20)
    nothing = brief(FAIL, status=500, input_tokens=10)
    never_sent = brief(Outcome.SHED)
    assert guard(counted, by_events, nothing, never_sent, **limits).over(open_streams) == why


def test_workers_are_one_a_core_but_one_and_no_more_than_are_of_use() -> None:
    assert workers_for(1) == workers_for(250) == 1
    assert 1 <= workers_for(100_000) <= 400
    assert [workers_for(n) for n in (1, 300, 3_000)] == sorted(workers_for(n) for n in (1, 300, 3_000))


# The journal.


def test_a_journal_is_one_json_line_for_each_event_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add("phase", name="hold", level=4, at_ns=7)
    journal.add("stop", why="a\nb", path=Path("x"))
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    journal.close()
    assert [json.loads(line) for line in lines] == [
        {"event": "phase", "name": "hold", "level": 4, "at_ns": 7},
        {"event": "stop", "why": "a\nb", "path": "x"},
    ]


def test_a_journal_that_cannot_be_made_or_written_names_its_file_and_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone/journal.jsonl: No such file.*use another folder"):
        Journal(tmp_path / "gone")
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    journal = Journal(tmp_path)
    with pytest.raises(StorageError, match=r"journal.jsonl: No space left on device; free space"):
        journal.add("phase", name="hold")
    journal.close()


# A whole run with workers of its own.


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with start(log=False) as running:
        yield running


def hold(*names: str, level: int = 4, requests: int | None = 12, name: str = "hold", **more: object) -> Phase:
    lanes = tuple(Lane((one,), tuple(PROMPTS), Hold(level), requests) for one in names or ("app",))
    return msgspec.structs.replace(Phase(name, lanes, level), **more)


def run(
    folder: Path, targets: tuple[Target, ...], *phases: Phase, number: int = 0, **more: Any
) -> tuple[Ending, list[Sample], list[Began | Report]]:
    """A run from beginning to end: how it ended, its Samples, what the listener heard."""
    journal = Journal(folder)
    journal.add("round", number=number)
    heard: list[Began | Report] = []
    load = Load(targets=targets, prompts=PROMPTS, phases=phases, seed=3, **more)
    ending = conduct(load, folder, SystemClock(), journal, heard.append, number=number)
    journal.close()
    paths = sorted(folder.glob("samples-*.sgs"))
    return ending, [r for path in paths for r in read_records(path) if isinstance(r, Sample)], heard


def test_phases_follow_one_another_and_the_story_can_be_read(sim: Simulator, tmp_path: Path) -> None:
    warmup = hold(level=1, requests=2, name="warmup", settles=True)
    ending, samples, heard = run(tmp_path, (target(sim),), warmup, hold())
    assert (ending.stopped_by, ending.partial) == (None, False)
    assert Counter((s.phase, s.outcome) for s in samples) == {("warmup", OK): 2, ("hold", OK): 12}
    assert [one.phase.name for one in heard if isinstance(one, Began)] == ["warmup", "hold"]
    assert sum(len(one.ended) for one in heard if isinstance(one, Report)) == 14
    story = read_story(tmp_path)
    assert [phase.name for phase in story.phases] == ["warmup", "hold", "drain"]
    assert (story.finished, story.partial, story.stopped_by, story.rounds) == (True, False, None, 1)
    last = max(s.end_ns for s in samples if s.phase == "warmup")
    assert all(s.due_ns >= last for s in samples if s.phase == "hold"), "what settles is alone"


def test_a_target_that_only_fails_ends_the_run(sim: Simulator, tmp_path: Path) -> None:
    refuses = target(sim, '[["status",500]]')
    ending, samples, _ = run(tmp_path, (refuses,), hold(level=25, requests=500))
    assert (ending.partial, ending.signal, ending.worker_died) == (True, None, None)
    assert ending.stopped_by == "app: 25 times http_error (500) in a row"
    assert 20 <= len(samples) <= 50
    assert read_story(tmp_path).stopped_targets == ("app",)


def test_a_target_that_only_fails_does_not_end_it_for_the_other(sim: Simulator, tmp_path: Path) -> None:
    refuses = target(sim, '[["status",500]]', name="refuses")
    slow = target(sim, '[["wait",150],["text","x"],["finish"]]')
    phase = hold("app", "refuses", level=20, requests=100, lockstep=40)
    ending, samples, _ = run(tmp_path, (slow, refuses), phase)
    assert (ending.partial, ending.stopped_by) == (True, None)
    assert Counter(s.outcome for s in samples if s.target == "app") == {OK: 100}
    assert read_story(tmp_path).stopped_targets == ("refuses",)


def test_a_name_that_is_gone_ends_the_run_even_where_only_the_warm_up_met_it(sim: Simulator, tmp_path: Path) -> None:
    nowhere = msgspec.structs.replace(target(sim), addresses=())
    warmup = hold(level=1, requests=1, name="warmup", settles=True)
    ending, samples, _ = run(tmp_path, (nowhere,), warmup, hold(level=25, requests=200, duration_ns=20 * S))
    assert (ending.stopped_by or "").endswith(" times dns_error in a row")
    assert {s.outcome for s in samples} == {Outcome.DNS_ERROR}


def test_a_limit_met_while_running_stops_new_requests_and_lets_open_ones_end(sim: Simulator, tmp_path: Path) -> None:
    asked = target(sim, '[["text","a"],["wait",300],["text","b"],["finish"]]')
    limits = Limits(requests=15)
    ending, samples, _ = run(tmp_path, (asked,), hold(level=5, requests=None, duration_ns=20 * S), limits=limits)
    assert (ending.stopped_by, ending.partial) == ("max_requests = 15 reached", True)
    assert len(samples) == 15
    assert {s.outcome for s in samples} == {OK}


def test_what_is_open_when_the_grace_is_over_is_cancelled(sim: Simulator, tmp_path: Path) -> None:
    asked = target(sim, '[["text","a"],["wait",30000],["finish"]]')
    phase = hold(requests=None, duration_ns=100 * MS)
    ending, samples, _ = run(tmp_path, (asked,), phase, grace_ns=100 * MS)
    assert (ending.stopped_by, ending.partial) == (None, False)
    assert [s.outcome for s in samples] == [Outcome.CANCELLED] * 4


def test_a_second_round_has_files_of_its_own_and_the_same_one_twice_is_refused(sim: Simulator, tmp_path: Path) -> None:
    run(tmp_path, (target(sim),), hold(requests=4))
    _, samples, _ = run(tmp_path, (target(sim),), hold(requests=4), number=1)
    assert len(samples) == 8
    assert read_story(tmp_path).rounds == 2
    ending, samples, _ = run(tmp_path, (target(sim),), hold(requests=4), number=1)
    assert ending.partial
    assert "samples-1-0.sgs: File exists" in (ending.disk or "")
    assert len(samples) == 8, "nothing was written over"


def test_a_bug_of_a_worker_ends_the_run_with_its_traceback(sim: Simulator, tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(target(sim), dialect="nonsense")
    ending, samples, _ = run(tmp_path, (wrong,), hold())
    assert ending.partial
    assert "KeyError: 'nonsense'" in (ending.bug or "")
    assert samples == []


def test_a_guard_needs_no_real_clock() -> None:
    clock = FakeClock()
    made = guard(brief(), *[brief(FAIL)] * 20)
    assert made.hopeless(clock.now(), {"app": clock.now()}) == {}
    clock.advance(10 * S)
    assert list(made.hopeless(clock.now(), {"app": clock.now() - 10 * S})) == ["app"]
