"""A run that was cut off goes on where that is honest: what is judged in the end is what its plan wanted."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli import environment, inline, valid_report
from folders import end, phase, run_folder, stop
from made import START, made
from streamgauge.arrivals import Rate
from streamgauge.capacity import Limit
from streamgauge.clock import S, SystemClock, boot_id
from streamgauge.plan import Hold, Lane, Phase, pick
from streamgauge.simulator import Simulator, start
from streamgauge.spec.presets import Climb
from streamgauge.suite.contract import Cut
from streamgauge.suite.execute import head_of
from streamgauge.suite.folder import Head, create, read_head, read_story
from streamgauge.suite.rest import levels_left, phases_left, requests_left
from streamgauge.suite.resume import left_of
from streamgauge.suite.stress import Climber
from test_prepare import planned

PROMPTS = ("short", "medium", "long")


# What is left, by numbers alone.


def cut(phases: tuple[Phase, ...], journal: list[dict[str, Any]], judged: dict[str, int], tmp_path: Path) -> Cut:
    folder = run_folder(tmp_path, [], [], journal, phases=list(phases))
    return Cut(read_head(folder), read_story(folder), judged)


WARMUP = Phase("warmup", (Lane(("a",), PROMPTS, Hold(1), 2),), 1, settles=True)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 90), done=st.integers(0, 90), seed=st.integers(0, 5), lanes=st.sampled_from([("a",), ("a", "b")])
)
def test_the_requests_left_are_those_of_the_plan_that_were_not_done(
    n: int, done: int, seed: int, lanes: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    hold = Phase("hold", (Lane(lanes, PROMPTS, Hold(4), n),), 4)
    first, others = done - done // len(lanes) * (len(lanes) - 1), done // len(lanes)
    judged = {name: first if i == 0 else others for i, name in enumerate(lanes)}
    whole = Counter(pick(hold.lanes[0], k, seed) for k in range(n))
    left = requests_left(
        cut((WARMUP, hold), [{"event": "round", "number": 0}, phase("hold")], judged, tmp_path_factory.mktemp("cut"))
    )
    if done >= n:
        assert left == ()
        return
    assert [one.name for one in left] == ["warmup", "hold"], "what is not judged is done again: connections are cold"
    assert not isinstance(left, str)
    (lane,) = left[1].lanes
    again = Counter(pick(lane, lane.first + k, seed) for k in range(lane.requests or 0))
    assert again + Counter(pick(hold.lanes[0], k, seed) for k in range(done)) == whole


def test_a_run_that_looked_twice_goes_on_with_its_second_look(tmp_path: Path) -> None:
    hold = Phase("hold", (Lane(("a",), PROMPTS, Hold(4), 40),), 4)
    rounds = [{"event": "round", "number": 0}, phase("hold"), phase("drain", 9, 0), end(10),
              {"event": "round", "number": 1}, phase("hold", 11)]  # fmt: skip
    left = requests_left(cut((WARMUP, hold), rounds, {"a": 52}, tmp_path))
    assert not isinstance(left, str)
    assert [(lane.first, lane.requests) for lane in left[1].lanes] == [(12, 28)]


def test_where_time_ends_the_hold_the_rest_of_its_time_is_left(tmp_path: Path) -> None:
    hold = Phase("hold", (Lane(("a",), PROMPTS, Hold(4), None),), 4, duration_ns=60 * S)
    left = requests_left(cut((hold,), [phase("hold"), stop("interrupted", 20_000), end(21_000)], {"a": 99}, tmp_path))
    assert not isinstance(left, str)
    assert left[0].duration_ns == 40 * S
    assert left[0].lanes[0].first == 99


def test_an_open_loop_cannot_go_on(tmp_path: Path) -> None:
    hold = Phase("hold", (Lane(("a",), PROMPTS, Rate(10.0, 100), 400),), 0)
    assert "come due whatever happens" in requests_left(cut((hold,), [phase("hold")], {"a": 9}, tmp_path))


def steps(*names: str, seconds: int = 60) -> tuple[Phase, ...]:
    return tuple(Phase(name, (Lane(("a",), PROMPTS, Hold(4), None),), 4, duration_ns=seconds * S) for name in names)


@pytest.mark.parametrize(
    ("journal", "wanted"),
    [
        ([], [("hold", 60), ("burst", 60), ("idle", 60)]),
        ([phase("hold"), stop("killed", 25_000)], [("hold", 35), ("burst", 60), ("idle", 60)]),
        ([phase("hold"), phase("burst", 60_000), stop("", 90_000)], [("burst", 60), ("idle", 60)]),
        ([phase("hold"), phase("burst", 60_000), phase("idle", 120_000), stop("", 121_000)], [("idle", 60)]),
        ([phase("hold"), phase("burst", 60_000), phase("idle", 120_000), stop("", 180_000)], []),
    ],
    ids=["before the first", "in the hold", "in the burst", "in the idle time", "after all"],
)
def test_a_test_by_phases_goes_on_with_the_one_that_was_cut_off(
    journal: list[dict[str, Any]], wanted: list[tuple[str, int]], tmp_path: Path
) -> None:
    """Of a burst nothing can be said in two pieces: it is run from its beginning."""
    left = phases_left(anew=("burst", "idle"))(cut(steps("hold", "burst", "idle"), journal, {}, tmp_path))
    assert not isinstance(left, str)
    assert [(one.name, (one.duration_ns or 0) // S) for one in left] == wanted


CLIMB = (
    WARMUP,
    *(
        Phase(name, (Lane(("a",), PROMPTS, Hold(level, S if name == "ramp" else 0)),), level,
              duration_ns=(1 if name == "ramp" else 10) * S)
        for level, kind in ((1, "stress"), (100, "hold"), (200, "stress"))
        for name in ("ramp", kind)
    ),
    Phase("recovery", (Lane(("a",), PROMPTS, Hold(5)),), 5, duration_ns=10 * S),
)  # fmt: skip
CLIMBED = [
    phase("warmup", 0, 1), phase("ramp", 1_000, 1), phase("stress", 2_000, 1), phase("ramp", 12_000, 100),
    phase("hold", 13_000, 100), phase("ramp", 23_000, 200), phase("stress", 24_000, 200), phase("recovery", 34_000, 5),
]  # fmt: skip


@pytest.mark.parametrize(
    ("journal", "wanted"),
    [
        ([*CLIMBED[:5], stop("", 15_000)], ["ramp 100", "hold 100", "ramp 200", "stress 200", "recovery 5"]),
        ([*CLIMBED[:4], stop("", 12_500)], ["ramp 100", "hold 100", "ramp 200", "stress 200", "recovery 5"]),
        ([*CLIMBED[:7], stop("", 34_000)], ["ramp 200", "stress 200", "recovery 5"]),
        ([*CLIMBED, stop("", 40_000)], ["ramp 200", "stress 200", "recovery 5"]),
        ([*CLIMBED, phase("ramp", 44_000, 87), phase("stress", 45_000, 87), stop("", 50_000)], []),
    ],
    ids=["in a level", "on the way to it", "after the last", "in the recovery", "in a finer step"],
)
def test_of_a_climb_the_levels_that_were_not_held_are_left_and_a_recovery_follows_its_load(
    journal: list[dict[str, Any]], wanted: list[str], tmp_path: Path
) -> None:
    left = levels_left(cut(CLIMB, journal, {}, tmp_path))
    assert not isinstance(left, str)
    assert [one.name for one in left[:1]] == ["warmup"]
    assert [f"{one.name} {one.level}" for one in left[1:]] == wanted
    if wanted:
        ramp = left[1]
        assert ramp.duration_ns == ramp.level * S // 100, "from nothing, at 100 starts a second"
        assert [lane.load for lane in ramp.lanes] == [Hold(ramp.level, ramp.duration_ns)]


def test_a_climb_that_had_given_up_is_not_taken_up_again(tmp_path: Path) -> None:
    gave_up = {"event": "gave_up", "phase": "stress", "level": 200, "why": "20 times dropped", "at_ns": START + 30 * S}
    assert "it had given up at 200 users (20 times dropped)" in levels_left(
        cut(CLIMB, [*CLIMBED[:7], gave_up, stop("", 31_000)], {}, tmp_path)
    )


def test_finer_steps_after_a_cut_are_chosen_by_the_levels_held_before_it(tmp_path: Path) -> None:
    """From the folder alone: at 100 users TTFT was 400 ms, at 200 it was 3 s; of a finer step a second was held."""
    held = [(level, since) for level, since in ((1, 2_000), (100, 13_000), (200, 24_000), (150, 46_000))]
    samples = [
        made(3_000.0 if level == 200 else 400.0, due_ms=since + 20.0 * i, level=level, writes_ms=100.0,
             phase="hold" if level == 100 else "stress")
        for level, since in held for i in range(40)
    ]  # fmt: skip
    journal = [{"event": "round", "number": 0}, *CLIMBED, phase("ramp", 44_000, 150), phase("stress", 46_000, 150)]
    folder = run_folder(
        tmp_path, samples, [], journal, phases=list(CLIMB), test="stress", host=platform.node(), boot=boot_id()
    )
    left = left_of(folder, SystemClock())
    assert [one.name for one in left.phases] == ["warmup"]

    climb = Climb((1, 100, 200), 100, hold_s=10, spike_s=5, recovery_s=10, finer=3)
    course = Climber(
        replace(planned(tmp_path, "stress").resolved.settings, climb=climb),
        ("app",),
        (Limit("ttft_ms.p95 < 1000", "ttft", 1_000.0),),
    )
    for told in left.told:
        course.hear(told)
    course.goes_on()

    assert [(one.level, one.n) for one in course.seen()] == [(level, 40) for level, _ in held]
    ramp, finer = course.ahead(None) or ()
    assert (ramp.level, finer.level) == (175, 175), "between 150, which was within, and 200"


def test_the_journal_tells_the_gap_and_what_came_after(tmp_path: Path) -> None:
    journal = [
        {"event": "round", "number": 0}, phase("hold"),
        {"event": "resume", "cut_ns": START + 5 * S, "at_ns": START + 65 * S, "at": "2025-11-24T04:16:05Z"},
        {"event": "round", "number": 1, "resumed": True}, phase("hold", 66_000), phase("drain", 80_000, 0), end(81_000),
    ]  # fmt: skip
    folder = run_folder(tmp_path, [made(100.0)], [], journal)
    story = read_story(folder)
    assert [(p.name, (p.end_ns - p.start_ns) / S) for p in story.phases] == [
        ("hold", 5.0), ("gap", 61.0), ("hold", 14.0), ("drain", 1.0)
    ]  # fmt: skip
    assert (story.partial, story.finished, story.stopped_by, story.rounds) == (False, True, None, 1)
    assert [(one.at, one.cut_s, one.gap_s) for one in story.resumed] == [("2025-11-24T04:16:05Z", 5.0, 60.0)]


# Where it is not honest.

AT = "http://127.0.0.1:9/v1/chat/completions"


def killed(tmp_path: Path, test: str = "ttft", flags: str = "--preset smoke", **head: Any) -> Head:
    """The folder of a run that began and was killed at once."""
    prepared = planned(tmp_path, test, preset="smoke")
    rerun = f"streamgauge run {test} --url {AT} --model m {flags} --seed 1"
    made_head = head_of(prepared, SystemClock(), tmp_path / "reports", rerun, None, 1_024)
    made_head = msgspec.structs.replace(made_head, **head)
    (create(made_head, tmp_path) / "journal.jsonl").write_text('{"event": "round", "number": 0}\n{"event": "pha')
    return made_head


@pytest.mark.parametrize(
    ("test", "head", "told"),
    [
        ("concurrent", {}, "it judges one hold without a break; start it again: streamgauge run concurrent --url"),
        ("ttft", {"host": "another"}, "it began on another, whose clock is another one; start it again"),
        ("ttft", {"boot": "another"}, "this machine was started anew since"),
        ("ttft", {"rerun": "streamgauge demo"}, "what it ran against ended with it; start it again: streamgauge demo"),
        ("ttft", {"rerun": f"streamgauge run ttft --url {AT} -H 'Authorization: ***'"}, "a secret was typed"),
        ("ttft", {"criteria": []}, "the criteria changed since it began"),
    ],
    ids=["a hold", "another machine", "started anew", "demo", "a typed secret", "another plan"],
)
def test_a_run_that_cannot_go_on_says_why_and_how_to_start_again(
    test: str, head: dict[str, Any], told: str, tmp_path: Path
) -> None:
    killed(tmp_path, test, **head)
    done = inline("run", "--resume", "last", cwd=tmp_path)
    assert done.code == 2
    assert told in done.err
    assert "Traceback" not in done.err


def test_what_ended_by_itself_has_a_report_and_no_rest(tmp_path: Path) -> None:
    head = killed(tmp_path)
    journal = tmp_path / ".streamgauge" / "runs" / head.id / "journal.jsonl"
    for facts, words in (({}, "it ran to its end"), ({"stopped_by": "max_usd = 1", "partial": True}, "max_usd = 1")):
        journal.write_text("".join(json.dumps(line) + "\n" for line in ({"event": "round"}, end(1, **facts))))
        done = inline("run", "--resume", head.id, cwd=tmp_path)
        assert done.code == 2
        assert words in done.err
        assert f"streamgauge report {head.id}" in done.err


def test_a_run_that_still_goes_on_is_left_alone(tmp_path: Path) -> None:
    head = killed(tmp_path)
    with (tmp_path / ".streamgauge" / "runs" / head.id / "journal.jsonl").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = inline("run", "--resume", "last", cwd=tmp_path)
    assert done.code == 2
    assert "is still running" in done.err


def test_what_is_asked_anew_is_for_a_new_run(tmp_path: Path) -> None:
    killed(tmp_path)
    for words in (("--requests", "5"), ("ttft",), ("--url", AT)):
        done = inline("run", "--resume", "last", *words, cwd=tmp_path)
        assert done.code == 2
        assert f"{words[0]} is for a new run" in done.err


def test_a_dry_run_says_what_is_left_and_touches_nothing(tmp_path: Path) -> None:
    head = killed(tmp_path)
    folder = tmp_path / ".streamgauge" / "runs" / head.id
    before = (folder / "journal.jsonl").read_bytes()
    done = inline("run", "--resume", "last", "--dry-run", cwd=tmp_path)
    assert (done.code, done.out) == (0, f"{head.id} goes on: warmup (2 requests), hold (150 requests)\n"), done.err
    assert (folder / "journal.jsonl").read_bytes() == before


# A real one, killed with -9 twice over.


def begun(simulator: Simulator, cwd: Path, *words: str) -> subprocess.Popen[str]:
    at = f"{simulator.url}/v1/chat/completions"
    words = words or ("ttft", "--url", at, "--model", "sim-t150-i5-n20", "--requests", "80", "--seed", "5")
    return subprocess.Popen(
        [sys.executable, "-m", "streamgauge", "run", *words, "-q", "--json"],
        cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def on_disk(cwd: Path, number: int, size: int) -> None:
    """Wait until a round has written so much."""
    until = time.monotonic() + 200
    while sum(p.stat().st_size for p in cwd.glob(f".streamgauge/runs/*/samples-{number}-*.sgs")) < size:
        assert time.monotonic() < until, f"round {number} wrote no {size} bytes"
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_twice_with_9_it_goes_on_and_judges_exactly_what_was_planned(tmp_path: Path) -> None:
    with start() as simulator:
        first = begun(simulator, tmp_path)
        on_disk(tmp_path, 0, 8_000)
        for process in (*psutil.Process(first.pid).children(recursive=True), psutil.Process(first.pid)):
            process.kill()  # workers first: nobody is left to write a word
        first.communicate()
        second = begun(simulator, tmp_path, "--resume", "last")
        on_disk(tmp_path, 1, 8_000)
        os.kill(psutil.Process(second.pid).children(recursive=True)[0].pid, signal.SIGKILL)
        out, err = second.communicate(timeout=300)
        assert second.returncode == 5, err
        broken = valid_report(out)
        assert (broken["verdict"], broken["partial"]) == ("invalid", True)
        third = begun(simulator, tmp_path, "--resume", "last")
        out, err = third.communicate(timeout=300)
        served = {record.trace_id for record in simulator.log()}
    report = valid_report(out)
    assert (report["partial"], report["outcomes"]["ok"]) == (False, 80), err
    assert [third.returncode, report["verdict"]] in ([0, "pass"], [3, "inconclusive"], [5, "invalid"])
    assert len(report["run"]["resumed"]) == 2
    assert [p["name"] for p in report["run"]["phases"]].count("gap") == 2
    assert sum("resumed at" in warning for warning in report["warnings"]) == 2
    last = max(tmp_path.glob("tests/performance/reports/*.csv"), key=lambda path: path.stat().st_mtime_ns)
    table = csv.DictReader(last.read_text("utf-8").splitlines())
    rows = [row for row in table if row["phase"] == "hold" and row["outcome"] == "ok"]
    assert len(rows) == 80
    assert len({row["id"] for row in rows}) == 80
    assert served >= {row["id"] for row in rows}, "the simulator served each of them"
    lengths = Counter(row["prompt"] for row in rows)
    assert all(abs(count - 80 / 3) <= 9 for count in lengths.values()), "of 4 open at a kill the lengths are not known"
