"""`memory` over planted series: faults found and named, clean servers left alone, nothing told that was not seen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cli import inline, undisturbed, valid_report
from folders import end, phase
from made import START, made
from probed import (
    MB,
    Plan,
    growing,
    memory_run,
    memory_samples,
    noisy,
    reading,
    readings,
    settings_of,
    shifted,
    verdicts,
    with_burst,
)
from streamgauge.plan import Hold
from streamgauge.reports import ReportGenerator, lasting
from streamgauge.sample import Reading
from streamgauge.simulator import start
from streamgauge.simulator.memory import Memory, parse
from streamgauge.suite import memory

GROWTH, CLEANUP, UNBOUNDED = "memory_growth_mb_per_h", "memory_cleanup", "memory_unbounded"
S = 1_000_000_000
PLAN = Plan()


def criterion(document, metric):
    return next(one for one in document.criteria if one.metric == metric)


def simulated(script: str, plan: Plan = PLAN, requests_per_s: float = 0.5) -> list[Reading]:
    """What the simulator's probe page would tell over the plan: its formula, at times of our own. Half a request a
    second under load, 10 open in the hold, 50 in the burst."""
    server = Memory(parse(script), 1, 0, real=lambda: 0)
    found = []
    for t in np.arange(0.0, plan.over, 5.0):
        server.requests = int(requests_per_s * min(t, plan.hold + plan.burst))
        server.open = 10 if t < plan.hold else 50 if t < plan.hold + plan.burst else 0
        server.most = max(server.most, server.open)
        if server.over(round(t * S)):
            server.restart(round(t * S))
        told = json.loads(server.page(round(t * S), 0, collect=False))
        values = {name: float(told[name]) for name in ("rss", "heap_used", "memory_limit") if name in told}
        found.append(
            reading(float(t), values, instance=told.get("instance", ""), pid=told.get("pid"), uptime_s=told["uptime_s"])
        )
    return found


def test_a_clean_server_passes(tmp_path):
    document = memory_run(tmp_path, readings(with_burst(noisy(), 200 * MB, 0.1)))

    assert document.verdict == "pass"
    assert verdicts(document) == {GROWTH: "pass", CLEANUP: "pass", UNBOUNDED: "pass"}
    (series,) = document.memory.series
    assert (series.shape, series.judged, series.restarts) == ("flat", True, 0)
    assert series.cleanup == pytest.approx(0.9, abs=0.03)
    assert series.peak_mb == pytest.approx(504, abs=5), "read during the burst"


def test_the_strategys_row_of_memory_has_the_growth_that_was_judged(tmp_path):
    document = memory_run(tmp_path, readings(growing(300 * MB)))

    (row,) = (one for one in document.baselines if one.name == "Memory growth")
    assert (row.verdict, row.note) == ("fail", "10 concurrent streams")
    assert row.measured == f"{criterion(document, GROWTH).value:,.0f} MB/h"


def test_a_leak_of_40_mb_an_hour_passes_growth_and_its_rate_is_told(tmp_path):
    document = memory_run(tmp_path, readings(growing(40 * MB)))

    growth = criterion(document, GROWTH)
    assert growth.verdict == "pass"
    assert growth.value == pytest.approx(40, rel=0.1)
    assert "grows by 4" in growth.sentence or "grows by 39" in growth.sentence
    assert criterion(document, UNBOUNDED).verdict == "fail", "a line, shown over the second half alone too"
    assert document.memory.series[0].shape == "line"


def test_a_leak_of_400_mb_an_hour_fails_and_the_next_step_is_about_memory(tmp_path):
    document = memory_run(tmp_path, readings(growing(400 * MB)))

    assert (document.verdict, document.severity) == ("fail", "P2")
    growth = criterion(document, GROWTH)
    assert growth.verdict == "fail"
    assert growth.low > 100
    assert "95 % sure it is above" in growth.sentence
    assert "heap snapshot" in document.next_step


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("noise=1", {GROWTH: "pass", CLEANUP: "pass", UNBOUNDED: "pass"}),
        ("leak=400,noise=5", {GROWTH: "fail", CLEANUP: "inconclusive", UNBOUNDED: "fail"}),
        ("leak=200,noise=5,saw=30:20", {GROWTH: "fail", UNBOUNDED: "fail"}),
        ("saw=30:20,noise=1", {GROWTH: "pass", UNBOUNDED: "pass"}),
        ("saw=60:200,noise=1", {GROWTH: "pass"}),
        ("cache=200:400,noise=2", {GROWTH: "pass", UNBOUNDED: "pass"}),
        ("request=0.2,noise=2", {GROWTH: "fail", UNBOUNDED: "fail"}),
        ("keep=4,noise=1", {GROWTH: "pass", CLEANUP: "fail", UNBOUNDED: "pass"}),
        ("open=4,noise=1", {GROWTH: "pass", CLEANUP: "pass", UNBOUNDED: "pass"}),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_the_simulator_plants_is_found_and_the_rest_left_alone(script, expected, tmp_path):
    document = memory_run(tmp_path, simulated(script))

    found = verdicts(document)
    assert {metric: found[metric] for metric in expected} == expected
    assert document.memory.gauge == "heap_used"


def test_a_leak_by_the_request_is_told_by_the_request(tmp_path):
    # The hold's requests end every 20 s: 0.05 a second. What leaks is planted by them.
    ended = np.array([s.end_ns for s in memory_samples() if s.phase == "hold"])
    noise = np.random.default_rng(2)

    def held(t):
        at = 5_000_000_000 + t * S
        return 300 * MB + 2 * MB * float(np.searchsorted(ended, at)) + 0.5 * MB * float(noise.standard_normal())

    document = memory_run(tmp_path, readings(held))
    series = document.memory.series[0]
    assert series.kb_per_request_low < 2_000 < series.kb_per_request_high
    assert series.growth_kb_per_request == pytest.approx(2_000, rel=0.05)


def test_of_several_instances_the_worst_is_judged_and_named(tmp_path):
    document = memory_run(tmp_path, simulated("leak=400,noise=2,instances=3"))

    assert next(s.instance for s in document.memory.series if s.judged) == "sim/3"
    assert len([s for s in document.memory.series if s.judged]) == 3
    assert "sim/3" in criterion(document, GROWTH).sentence
    assert criterion(document, GROWTH).verdict == "fail"


def test_several_processes_behind_one_address_without_ids_are_not_judged_and_named(tmp_path):
    by_pid = [*readings(noisy())]
    by_pid = [r for i, one in enumerate(by_pid) for r in shifted([one], pid=100 + i % 2)]
    by_start = readings(noisy())
    by_start = [r for i, one in enumerate(by_start) for r in shifted([one], instance="#2" if i % 2 else "")]

    for n, read in enumerate((by_pid, by_start)):
        document = memory_run(tmp_path / str(n), read)
        assert set(verdicts(document).values()) == {"inconclusive"}
        assert "instance id" in criterion(document, GROWTH).sentence
        assert all(one.mixed and one.growth_mb_per_h is None for one in document.memory.series)


def test_a_restart_is_told_and_the_longest_life_is_judged(tmp_path):
    read = [*readings(growing(400 * MB))]
    cut = 1_000.0
    read = [
        reading((one.at_ns - read[0].at_ns) / S, {"heap_used": 200 * MB if i * 5 > cut else one.values["heap_used"]},
                pid=1 if i * 5 <= cut else 2)
        for i, one in enumerate(read)
    ]  # fmt: skip
    document = memory_run(tmp_path, read)

    (series,) = document.memory.series
    assert series.restarts == 1
    assert criterion(document, GROWTH).verdict == "pass", "44 minutes of the second life are flat"
    assert any("1 restarts (at 1005 s)" in note for note in document.memory.notes)


def test_a_server_that_is_restarted_at_its_limit_is_no_pass(tmp_path):
    document = memory_run(tmp_path, simulated("leak=900,noise=1,limit=300"))

    assert document.memory.series[0].restarts >= 3
    assert criterion(document, GROWTH).verdict == "inconclusive"
    assert document.verdict == "inconclusive"


def test_the_time_until_the_memory_limit_is_told(tmp_path):
    read = shifted(readings(growing(100 * MB)))
    read = [reading((one.at_ns - read[0].at_ns) / S, {**one.values, "memory_limit": 512 * MB}) for one in read]
    series = memory_run(tmp_path, read).memory.series[0]

    assert series.limit_mb == 512
    assert series.limit_reached_in_h == pytest.approx((512 - 400) / 100, abs=0.1)
    assert series.limit_reached_in_h_least < series.limit_reached_in_h


def test_the_heap_is_judged_and_the_rss_shown_beside_it(tmp_path):
    heap, rss = noisy(), growing(400 * MB)
    read = [reading(float(t), {"heap_used": float(heap(t)), "rss": float(rss(t))})
            for t in np.arange(0.0, PLAN.over, 5.0)]  # fmt: skip
    document = memory_run(tmp_path, read)

    assert document.memory.gauge == "heap_used"
    assert [(one.gauge, one.judged) for one in document.memory.series] == [("heap_used", True), ("rss", False)]
    assert document.memory.series[1].growth_mb_per_h == pytest.approx(400, rel=0.05)
    assert criterion(document, GROWTH).verdict == "pass"


def test_where_there_is_only_rss_it_is_judged_and_said(tmp_path):
    document = memory_run(tmp_path, readings(growing(400 * MB), gauge="rss"))

    assert criterion(document, GROWTH).sentence.startswith("RSS of app")
    assert criterion(document, GROWTH).verdict == "fail"
    assert any("RSS" in note for note in document.memory.notes)


def test_a_probe_that_gives_neither_decides_nothing_and_says_what_there_is(tmp_path):
    document = memory_run(tmp_path, readings(noisy(), gauge="connections"))

    assert set(verdicts(document).values()) == {"inconclusive"}
    assert any("connections" in note for note in document.memory.notes)


def test_failed_readings_are_gaps(tmp_path):
    read = readings(growing(400 * MB))
    read = [
        one if i % 3 else reading((one.at_ns - read[0].at_ns) / S, {}, error="refused") for i, one in enumerate(read)
    ]
    document = memory_run(tmp_path, read)

    (series,) = document.memory.series
    assert series.failed == len([one for one in read if one.error])
    assert series.growth_mb_per_h == pytest.approx(400, rel=0.02)


def test_a_probe_that_never_answered_decides_nothing_and_says_why(tmp_path):
    document = memory_run(tmp_path, [reading(t, {}, error="401: it does not accept the token") for t in (0, 5, 10)])

    assert document.verdict == "inconclusive"
    assert "401" in criterion(document, GROWTH).sentence


def test_a_probe_that_died_is_told_and_not_that_the_run_was_too_short(tmp_path):
    read = readings(growing(0.0))
    dead = [reading((one.at_ns - read[0].at_ns) / S, {}, error="500: it is down") for one in read[2:]]
    document = memory_run(tmp_path, [*read[:2], *dead])

    growth = criterion(document, GROWTH)
    assert growth.verdict == "inconclusive"
    assert "readings of the server's memory failed, at last so: 500: it is down" in growth.sentence
    assert "too short" not in growth.sentence
    assert "see why the probe stopped answering" in document.next_step


def test_readings_after_a_collection_are_left_out_of_growth_and_say_what_stayed(tmp_path):
    held = with_burst(noisy(), 200 * MB, 0.8)
    read = readings(held)
    read = [
        one if i % 60 else reading(i * 5.0, {"heap_used": 100 * MB}, collected=True, snapshot=True)
        for i, one in enumerate(read)
    ]
    document = memory_run(tmp_path, read)

    assert abs(criterion(document, GROWTH).value) < 5
    assert document.memory.series[0].after_mb == 100
    assert criterion(document, CLEANUP).verdict == "pass"
    assert all(shot.collected for shot in document.memory.snapshots)
    assert {shot.phase for shot in document.memory.snapshots} >= {"hold", "idle"}


@pytest.mark.parametrize(("hold", "length"), [(25.0, "25 s"), (300.0, "5 min"), (1_200.0, "20 min")])
def test_a_run_too_short_decides_nothing_and_says_which_length_would(hold, length, tmp_path):
    plan = Plan(hold=hold, burst=20.0, idle=60.0)
    document = memory_run(tmp_path, readings(growing(400 * MB, plan), plan), plan)

    growth = criterion(document, GROWTH)
    assert growth.verdict == "inconclusive"
    assert f"{length} of load are too short to decide; about " in growth.sentence
    assert document.verdict == "inconclusive"


def test_a_server_that_nobody_used_is_not_acquitted(tmp_path):
    document = memory_run(tmp_path, readings(noisy()), good=0.2)

    assert verdicts(document) == {GROWTH: "inconclusive", CLEANUP: "inconclusive", UNBOUNDED: "inconclusive"}
    assert "hardly used" in criterion(document, GROWTH).sentence


def test_level_readings_through_the_burst_show_that_there_was_nothing_to_give_back(tmp_path):
    document = memory_run(tmp_path, readings(noisy()))

    cleanup = criterion(document, CLEANUP)
    assert (cleanup.verdict, cleanup.value) == ("pass", None)
    said = (
        r"was no higher after the burst than before, 95 % sure that less than [345]\.\d MB stayed \(300 MB before, 303"
    )
    assert re.search(said, cleanup.sentence)
    assert document.memory.series[0].cleanup is None


def test_noise_in_which_a_burst_of_100_mb_hides_is_no_pass_whether_or_not_it_hides_one(tmp_path):
    """Noise of 17 MB at 500 MB; the burst takes 20 MB, of which 18 stay, or nothing at all."""
    noise = noisy(level=500 * MB, sd=17 * MB)
    hidden = readings(with_burst(noisy(level=500 * MB, sd=17 * MB), 20 * MB, 0.9))
    for name, series in (("clean", readings(noise)), ("hidden", hidden)):
        cleanup = criterion(memory_run(tmp_path / name, series), CLEANUP)
        assert (cleanup.verdict, cleanup.value) == ("inconclusive", None), name
        assert re.search(r"a rise of 1\d\d MB could hide in them and [45]\d MB of it stay; ", cleanup.sentence), name
        assert "a larger burst decides" in cleanup.sentence


def test_a_leak_that_hides_the_burst_is_no_pass_and_what_decides_is_told(tmp_path):
    """A leak of 900 MB/h that goes on whatever is asked: 20 MB in the 80 s from before the burst to its end."""
    noise = noisy(sd=1 * MB)
    document = memory_run(tmp_path, readings(lambda t: noise(t) + 900 * MB * t / 3600))

    cleanup = criterion(document, CLEANUP)
    assert (cleanup.verdict, cleanup.value, cleanup.why) == ("inconclusive", None, "not_measured")
    assert "no more than growth alone would add" in cleanup.sentence
    assert "MB that the growth of 899 MB/h alone explains" in cleanup.sentence
    assert "a larger burst decides" in cleanup.sentence


def test_what_growth_adds_to_the_peak_is_taken_off_and_told(tmp_path):
    """240 MB/h: 5 MB by the burst's 45th second; the burst raises 100 MB, of which 30 stay."""
    noise = growing(240 * MB)
    document = memory_run(tmp_path, readings(with_burst(noise, 100 * MB, 0.3)))
    cleanup, series = criterion(document, CLEANUP), document.memory.series[0]

    assert 2 < series.grown_mb < 6
    assert f"at most, less {series.grown_mb:.1f} MB that the growth of 241 MB/h alone explains" in cleanup.sentence
    peak = series.peak_mb - series.grown_mb
    assert cleanup.value == pytest.approx((peak - series.after_mb) / (peak - series.before_mb), abs=1e-3)
    assert cleanup.verdict == "pass"


def test_whether_growth_or_the_burst_is_held_after_it_is_left_open_where_it_matters(tmp_path):
    """A leak of 600 MB/h that goes on while idle, 50 MB of it; all that the burst took came back."""
    noise = noisy(sd=1 * MB)
    grows = with_burst(lambda t: noise(t) + 600 * MB * t / 3600, 80 * MB, 0.0)
    cleanup = criterion(memory_run(tmp_path, readings(grows)), CLEANUP)

    assert cleanup.verdict == "inconclusive"
    assert cleanup.value < 0.5
    assert "% if it grew on while idle: mend the growth, then run again" in cleanup.sentence


def test_so_short_an_idle_time_cannot_fail_cleanup_and_can_pass_it(tmp_path):
    plan = Plan(idle=60.0)
    kept = memory_run(tmp_path / "a", readings(with_burst(noisy(), 200 * MB, 0.9, plan), plan), plan)
    gone = memory_run(tmp_path / "b", readings(with_burst(noisy(), 200 * MB, 0.1, plan), plan), plan)

    assert criterion(kept, CLEANUP).verdict == "inconclusive"
    assert "idle" in criterion(kept, CLEANUP).sentence
    assert criterion(gone, CLEANUP).verdict == "pass"


def test_memory_never_given_back_fails(tmp_path):
    document = memory_run(tmp_path, readings(with_burst(noisy(), 200 * MB, 0.9)))

    cleanup = criterion(document, CLEANUP)
    assert cleanup.verdict == "fail"
    assert cleanup.value == pytest.approx(0.1, abs=0.03)
    assert document.verdict == "fail"


def test_doubt_of_our_own_load_takes_a_pass_back_and_not_a_leak(tmp_path):
    """Half of the starts late through us: a server that grew all the same leaks."""
    late = [msgspec.structs.replace(one, late_ns=2 * S) for one in memory_samples()]
    clean, leak = (memory_run(tmp_path / str(rate), readings(growing(rate)), samples=late) for rate in (0.0, 400 * MB))

    assert criterion(clean, GROWTH).verdict == "invalid"
    assert criterion(leak, GROWTH).verdict == "fail"
    assert leak.verdict == "fail"


def test_a_server_that_calls_itself_anew_each_time_is_no_pass_and_its_report_stays_readable(tmp_path):
    read = [reading(i * 5.0, one.values, instance=f"i-{i}") for i, one in enumerate(readings(noisy()))]
    document = memory_run(tmp_path, read)

    assert set(verdicts(document).values()) == {"inconclusive"}
    table = lasting.memory_table(document.memory)
    assert len(document.memory.series) == len(read)
    assert len(table.rows) == lasting.MOST_ROWS
    assert any("more series in the JSON" in line for line in lasting.memory_lines(document.memory))


def test_a_run_that_ended_early_never_passes(tmp_path):
    journal = [{"event": "round", "number": 0}, phase("hold", 0, 10), end(3_600_000, partial=True)]
    document = memory_run(tmp_path, [one for one in readings(noisy()) if one.at_ns < 3_600 * S], journal=journal)

    assert document.partial
    assert document.verdict == "inconclusive"
    assert criterion(document, CLEANUP).verdict == "inconclusive"


def gone_on(root, leak, *, gap=600.0, **facts):
    """A run that was cut off in the middle of its hold and went on 10 min later; `facts` of the readings since."""
    half, plan = PLAN.hold / 2, Plan(hold=PLAN.hold)
    since, noise = half + gap, noisy()

    def at(t: float, first: bool) -> Reading:
        held = noise(t) + leak * min(t if first else t - gap, plan.hold) / 3600 - (0 if first else 80 * MB)
        usual = {"pid": 7, "uptime_s": 5_000.0 + t}
        return reading(t, {"heap_used": held}, **(usual if first else {**usual, **{k: f(t) for k, f in facts.items()}}))

    over = plan.hold + gap
    read = [at(t, True) for t in np.arange(0.0, half, 5.0).tolist()]
    read += [at(t, False) for t in np.arange(since, over + plan.burst + plan.idle, 5.0).tolist()]
    cut = {
        "event": "resume",
        "cut_ns": START + round(half * S),
        "at_ns": START + round(since * S),
        "at": "2025-11-24T05:00:00Z",
    }
    journal = [
        {"event": "round", "number": 0}, phase("hold", 0, 10), cut, {"event": "round", "number": 1, "resumed": True},
        phase("hold", 1_000 * since, 10), phase("burst", 1_000 * over, 50),
        phase("idle", 1_000 * (over + plan.burst), 0), phase("drain", 1_000 * (over + plan.burst + plan.idle), 0),
        end(1_000 * (over + plan.burst + plan.idle)),
    ]  # fmt: skip
    later = [made(n=n, due_ms=1_000 * t, phase="hold" if t < over else "burst", level=10)
             for n, t in enumerate([*np.arange(0, half, 20), *np.arange(since, over + plan.burst, 5)])]  # fmt: skip
    return memory_run(root, read, plan, journal=journal, samples=later)


def test_a_run_that_went_on_is_judged_on_both_sides_of_its_gap(tmp_path):
    leak, clean = gone_on(tmp_path / "leak", 200 * MB), gone_on(tmp_path / "clean", 0.0)

    assert (criterion(leak, GROWTH).verdict, criterion(clean, GROWTH).verdict) == ("fail", "pass")
    assert criterion(leak, GROWTH).value == pytest.approx(200, rel=0.05)
    assert "over 48 min on both sides of a gap)" in criterion(leak, GROWTH).sentence
    assert criterion(leak, UNBOUNDED).verdict == "fail"
    assert "no load from 1800 s to 2400 s: both sides are judged together" in "".join(leak.memory.notes)


@pytest.mark.parametrize(
    "facts",
    [{"uptime_s": lambda t: t - 2_300.0}, {"pid": lambda t: 8}, {"pid": lambda t: None, "uptime_s": lambda t: None}],
    ids=["begun anew in the gap", "another process since", "nobody tells which"],
)
def test_after_a_restart_in_the_gap_the_longer_side_is_judged_alone(facts, tmp_path):
    document = gone_on(tmp_path, 200 * MB, **facts)

    (series,) = document.memory.series
    assert series.judged_to_s - series.judged_from_s < 25 * 60
    assert "gap" not in criterion(document, GROWTH).sentence
    assert "is judged on the longer side alone" in "".join(document.memory.notes)


def test_the_criterion_sets_what_is_allowed(tmp_path):
    from probed import criteria
    from streamgauge.verdict import Criterion

    strict = Criterion(name="strict", metric=GROWTH, stat=None, op="<", limit=20, unit="MB/h")
    document = memory_run(tmp_path, readings(growing(40 * MB)), criteria=[strict, *criteria("memory")[1:]])
    assert criterion(document, GROWTH).verdict == "fail"


def test_every_form_of_the_report_tells_the_series_and_what_a_server_calls_itself_stays_text(tmp_path):
    name = "<b onload=x>|`[a](b)`\x1b[31m\n# pod"
    document = memory_run(tmp_path, readings(growing(400 * MB), instance=name))
    generator = ReportGenerator(document, None)
    valid_report(generator.json())
    page, text = generator.html(), generator.markdown()

    assert document.memory.series[0].instance == name
    for form in (page, text):
        assert "Memory of the server" in form
        assert "heap of app" in form
        assert "line" in form
        assert "\x1b" not in form
    assert "<b onload" not in page
    assert "<b onload" not in text.replace("\\<", "&lt;")
    assert "\n# pod" not in text


# The plan


def test_the_plan_is_warm_up_hold_burst_and_a_time_without_load():
    asked = settings_of("memory", preset="standard")
    plan = {one.name: one for one in memory.phases(asked, ("app",), ())}

    assert list(plan) == ["warmup", "hold", "burst", "idle"]
    assert (plan["hold"].level, plan["hold"].duration_ns) == (10, 3_600 * S)
    assert plan["hold"].lanes[0].load == Hold(10, S // 10)
    assert plan["burst"].settles
    assert plan["burst"].level == 50
    assert (plan["idle"].lanes, plan["idle"].streams, plan["idle"].duration_ns) == ((), 0, 300 * S)


def test_the_burst_grows_with_the_level():
    asked = settings_of("memory", preset="standard", concurrency=40, duration_s=60.0)
    assert asked.burst.level == 200
    assert asked.duration_s == 60


def test_without_a_probe_it_does_not_start(tmp_path):
    done = inline("run", "memory", "--url", "http://127.0.0.1:9/v1/chat/completions", cwd=tmp_path)
    assert done.code == 2
    assert "[probes." in done.err
    assert "--probe" in done.err


def test_a_criterion_of_another_test_is_a_mistake_that_says_where_it_belongs(tmp_path):
    (tmp_path / "streamgauge.toml").write_text(
        '[targets.app]\nurl = "http://127.0.0.1:9"\ndialect = "openai-chat"\n'
        '[tests.ttft]\ncriteria = ["memory_cleanup > 50%"]\n[tests.memory]\n'
        'criteria = [{ rule = "drops == 0", phase = "ramp" }]\nburst = 0\n'
    )
    done = inline("run", "ttft", "--dry-run", cwd=tmp_path)
    assert done.code == 2
    assert "memory_cleanup is found by the test memory; ask for it there" in done.err
    assert 'memory has no phase "ramp"' in done.err
    assert "burst: must be at least 1" in done.err


def test_production_is_spared_unless_the_spec_allows_it(tmp_path):
    (tmp_path / "streamgauge.toml").write_text(
        '[environments.live]\nurl = "http://127.0.0.1:9"\nkind = "production"\n[targets.app]\ndialect = "openai-chat"\n'
        '[probes.app]\nkind = "process"\nport = 9\n'
    )
    for test in ("memory", "endurance"):
        done = inline("run", test, "--dry-run", "--preset", "smoke", cwd=tmp_path)
        assert done.code == 2
        assert "live counts as production" in done.err
        allowed = ("--set", f"tests.{test}.allow_production=true", "--max-requests", "10000", "--max-tokens", "9999999")
        done = inline("run", test, "--dry-run", "--preset", "smoke", *allowed, cwd=tmp_path)
        assert done.code == 0, done.err


def test_a_real_run_reads_in_every_phase_and_its_peak_during_the_burst(tmp_path):
    with start(log=False, memory="open=20,noise=0.1") as simulator:
        flags = ("--model", "sim-t20-i10-n40", "--probe", f"{simulator.url}/probe", "--duration", "6s", "--json", "-q")
        sets = [word for one in ("burst_duration=6s", "idle=5s", "burst=30", "preset=smoke")
                for word in ("--set", f"tests.memory.{one}")]  # fmt: skip
        done = undisturbed(
            "run", "memory", "--url", simulator.endpoint("openai-chat"), *flags, *sets, "-y", cwd=tmp_path
        )
    assert done.code == 3, done.out + done.err
    report = valid_report(done.out)
    told = report["memory"]["series"][0]
    assert told["peak_mb"] > told["before_mb"] + 200, "20 more streams of 20 MB each"
    assert told["after_mb"] < told["before_mb"] - 100, "nothing is open any more"
    assert report["partial"] is False
    assert [p["name"] for p in report["run"]["phases"]][-4:] == ["hold", "burst", "idle", "drain"]
    assert "of load would decide" in next(c["sentence"] for c in report["criteria"] if c["metric"] == GROWTH)


def test_the_folder_is_all_that_is_needed_to_judge_it_again(tmp_path):
    from streamgauge.suite.assess import assess

    document = memory_run(tmp_path, readings(growing(400 * MB)))
    again = assess(Path(document.run.folder)).document
    assert again == document
