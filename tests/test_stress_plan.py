"""What `stress` plans, what it decides while the load runs, and how its own criteria are met: no network."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from streamgauge.capacity import Level, capacity
from streamgauge.control import Brief, Report
from streamgauge.dialects import with_options
from streamgauge.errors import UsageError
from streamgauge.evidence import Requirement
from streamgauge.plan import Hold, Phase
from streamgauge.run import Began
from streamgauge.sample import Outcome, Reading
from streamgauge.spec.load import Spec, load_spec
from streamgauge.spec.mistakes import Mistakes, Places
from streamgauge.spec.presets import PRESETS, TABLE, Settings
from streamgauge.spec.settings import Overrides, judged_by, open_loop_of, settings_of
from streamgauge.strain import Recovery
from streamgauge.suite import stress
from streamgauge.suite.crashes import restarts
from streamgauge.suite.weighing import weigh_capacity, weigh_errors, weigh_recovery

S = 1_000_000_000
SPEC = """
[targets.a]
url = "http://127.0.0.1:1/v1/chat/completions"
dialect = "openai-chat"
model = "m"
[tests.stress]
preset = "smoke"
"""


def spec(folder: Path, more: str = "") -> Spec:
    (folder / "streamgauge.toml").write_text(SPEC + more)
    return load_spec(folder / "streamgauge.toml", speak=with_options, environ={})


def settings(folder: Path, more: str = "", **flags: object) -> Settings:
    found = spec(folder, more)
    overrides = Overrides(**flags)  # type: ignore[arg-type]
    arrivals = open_loop_of(found, "stress", overrides, Mistakes(Places()))
    return settings_of(found, "stress", ("a",), overrides, None, arrivals)


def levels(phases: tuple[Phase, ...]) -> list[float]:
    return [stress.level_of(phase) for phase in phases if phase.name in stress.LEVELS]


def test_every_level_asked_for_is_reached_and_then_held(tmp_path):
    plan = stress.phases(settings(tmp_path), ("a",), ())

    assert levels(plan) == [1, 10, 25, 50, 75, 100, 150, 200]
    names = [phase.name for phase in plan]
    assert names == ["warmup", *["ramp", "stress"] * 5, "ramp", "hold", *["ramp", "stress"] * 2, "recovery"]
    assert not any(phase.settles for phase in plan[1:]), "no drain in between"
    for ramp, held in zip(plan[1:-1:2], plan[2:-1:2], strict=True):
        assert ramp.level == held.level
        assert held.duration_ns == 3 * S


@pytest.mark.parametrize(
    ("more", "flags", "expected", "asked"),
    [
        ("", {"concurrency": 60}, [1, 10, 25, 50, 60], 60),
        ("", {"concurrency": 120}, [1, 10, 25, 50, 75, 100, 120], 100),
        ("levels = [2, 4, 8]", {}, [2, 4, 8], 8),
        ("levels = [2, 4, 8]\ncapacity = 5", {}, [2, 4, 5, 8], 5),
        ("", {"rate": 20.0}, [0.1, 1, 2.5, 5, 7.5, 10, 15, 20], 10),
    ],
)
def test_the_top_moves_what_is_climbed_and_what_is_asked(tmp_path, more, flags, expected, asked):
    found = settings(tmp_path, more, **flags)

    assert levels(stress.phases(found, ("a",), ())) == pytest.approx(expected)
    assert found.climb is not None
    assert found.climb.asked == asked
    criteria = {one.text for one in judged_by(spec(tmp_path, more), found)}
    assert f"capacity >= {asked:g}" in criteria


def test_a_preset_changes_times_and_never_what_is_asked():
    climbs = [TABLE["stress", name].climb for name in PRESETS]
    assert len({(one.levels, one.asked) for one in climbs if one}) == 1
    holds = [one.hold_s for one in climbs if one]
    assert holds == sorted(holds)


def test_smoke_takes_about_a_minute(tmp_path):
    found = settings(tmp_path)
    whole = (*stress.phases(found, ("a",), ()), *stress.later(found, ("a",), ()))
    assert 55 <= sum(phase.duration_ns or 0 for phase in whole) / S <= 80


def test_a_trace_a_ramp_and_a_number_of_requests_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--duration instead of --requests"):
        stress.needs(settings(tmp_path, "requests = 50"))
    with pytest.raises(UsageError, match="one number"):
        stress.needs(settings(tmp_path, "rate = { from = 1, to = 100, over = 60 }"))


def climber(found: Settings, folder: Path) -> stress.Climber:
    limits = stress.limits_of(judged(folder, found))
    return stress.Climber(found, ("a",), limits)


def judged(folder: Path, found: Settings) -> list[object]:
    return list(judged_by(spec(folder), found))


def held(one: stress.Climber, at_ns: int, level: int, ttft_ms: float, outcome: Outcome = Outcome.OK) -> int:
    """A level begins, 60 requests come due in it and end, and it is over; when."""
    phase = Phase("stress", (), level, duration_ns=3 * S)
    one.hear(Began(phase, at_ns))
    first = None if outcome is not Outcome.OK else round(ttft_ms * 1e6)
    ended = [
        Brief("a", "stress", outcome, 200, first, first, 10, 10, 10, None, at_ns + S, at_ns + i * S // 60)
        for i in range(60)
    ]
    one.hear(Report(worker=0, at_ns=at_ns + S, open_streams=0, ended=ended))
    return at_ns + 3 * S


def test_finer_steps_halve_the_bracket_then_comes_the_spike_and_the_end(tmp_path):
    one, at = climber(settings(tmp_path), tmp_path), S
    for level, ttft in ((10, 200.0), (50, 400.0), (100, 3_000.0)):
        at = held(one, at, level, ttft)

    ramp, fine = one.ahead(None) or ()
    assert (ramp.name, ramp.level, fine.level) == ("ramp", 75, 75)
    at = held(one, at, 75, 2_000.0)
    _, fine = one.ahead(None) or ()
    assert fine.level == 62
    at = held(one, at, 62, 700.0)
    _, fine = one.ahead(None) or ()
    assert fine.level == 68
    held(one, at, 68, 900.0)

    settle, spike, recovery = one.ahead(None) or ()
    assert (settle.name, settle.settles) == ("settle", True)
    assert spike.name == "spike"
    assert isinstance(spike.lanes[0].load, Hold)
    assert (spike.lanes[0].load.level, spike.lanes[0].load.spread_ns) == (100, 0)
    assert recovery.name == "recovery"
    assert one.ahead(None) == ()


def test_where_nothing_is_crossed_there_are_no_finer_steps(tmp_path):
    one = climber(settings(tmp_path), tmp_path)
    held(one, S, 10, 200.0)
    assert [phase.name for phase in one.ahead(None) or ()] == ["settle", "spike", "recovery"]


def test_a_level_that_is_given_up_has_failed_and_is_followed_by_its_recovery(tmp_path):
    one = climber(settings(tmp_path), tmp_path)
    at = held(one, S, 10, 200.0)
    held(one, at, 50, 0.0, Outcome.FIRST_TOKEN_TIMEOUT)

    assert [phase.name for phase in one.ahead("a: 20 times first_token_timeout in a row") or ()] == ["recovery"]
    _, fine = one.ahead(None) or ()
    assert fine.level == 30


def test_after_a_crash_comes_its_recovery_and_nothing_else(tmp_path):
    one = climber(settings(tmp_path), tmp_path)
    at = held(one, S, 10, 200.0)
    held(one, at, 50, 0.0, Outcome.CONNECT_REFUSED)

    assert [phase.name for phase in one.ahead("a: 20 times connect_refused in a row") or ()] == ["recovery"]
    assert one.ahead(None) == ()


def reading(at_s: float, pid: int | None, uptime_s: float | None = None, **facts: str) -> Reading:
    return Reading(probe="app", at_ns=round(at_s * S), took_ns=1, pid=pid, uptime_s=uptime_s, **facts)  # type: ignore[arg-type]


def test_a_restart_is_seen_by_uptime_or_by_a_process_that_stays():
    by_uptime = [reading(10, 7, 100.0), reading(15, 7, 105.0), reading(20, 9, 2.0)]
    assert [one.words for one in restarts(by_uptime, 5 * S)] == ["probe app saw a restart by 15.0 s: up for 2.0 s only"]
    pids = [*(reading(at, 7) for at in (5, 8, 10)), reading(15, None, error="refused"), reading(20, 9), reading(25, 9)]
    assert restarts(pids, 5 * S) == [], "two that answer by chance would do as much"
    (found,) = restarts([*pids, reading(30, 9)], 5 * S)
    assert (found.words, found.after_ns, found.by_ns) == (
        "probe app saw a restart by 15.0 s: process 9 instead of process 7", 10 * S, 20 * S
    )  # fmt: skip


def test_a_restart_is_seen_by_an_instance_that_takes_another_s_place():
    """A container has its number anew each time; with an uptime one reading more is enough, without it takes longer."""
    young = [reading(5, 1, 90.0, instance="a"), reading(10, 1, 2.0, instance="b"), reading(15, 1, 7.0, instance="b")]
    assert [one.words for one in restarts(young, S)] == ["probe app saw a restart by 9.0 s: up for 2.0 s only"]
    assert restarts(young[:2], S) == [], "it may have been added beside the former one"
    assert restarts([*young, reading(20, 1, 105.0, instance="a")], S) == [], "it was"
    named = [reading(5 * i, None, instance="a" if i < 4 else "b") for i in range(1, 7)]
    assert [one.words for one in restarts(named, S)] == ["probe app saw a restart by 19.0 s: b instead of a"]


def test_a_restart_right_after_the_first_look_is_seen_although_both_are_young():
    assert len(restarts([reading(10, 7, 4.0), reading(15, 9, 4.2)], S)) == 1
    assert len(restarts([reading(10, None, 4.0), reading(15, None, 4.2)], S)) == 1
    assert restarts([reading(10, 7, 4.0), reading(15, 7, 9.0)], S) == []
    assert restarts([reading(10, None, 4.0), reading(15, None, 8.0)], S) == [], "whole seconds"


def test_several_servers_behind_one_address_are_no_restarts():
    turns = [reading(10 + 5 * i, 7 + i % 2) for i in range(6)]
    assert restarts(turns, S) == []
    old_and_young = [reading(10 + 5 * i, 7 + i % 2, (1_000.0, 50.0)[i % 2] + 5 * i) for i in range(6)]
    assert restarts(old_and_young, S) == []


def test_a_probe_that_sees_a_restart_ends_the_climb(tmp_path):
    from streamgauge.sample import SampleWriter  # the records of readings are framed as the Samples are
    from streamgauge.suite.folder import READINGS

    one = climber(settings(tmp_path), tmp_path)
    one.folder = tmp_path
    assert one.alarm() is None
    writer = SampleWriter(tmp_path / READINGS)
    for record in (reading(10, 7, 100.0), reading(15, 9, 2.0)):
        writer.add(record)  # type: ignore[arg-type]
    writer.flush()
    writer.close()
    one.hear(Report(worker=0, at_ns=30 * S, open_streams=0))
    why = one.alarm()

    assert why is not None
    assert "saw a restart" in why
    assert [phase.name for phase in one.ahead(why) or ()] == ["recovery"]
    assert one.ahead(None) == ()


def ask(metric: str, op: str, limit: float) -> Requirement:
    return Requirement(metric, None, op, limit)


def found(*rows: tuple[float, float]) -> object:
    seen = [Level(at, np.full(200, ttft), 200, 0) for at, ttft in rows]
    limits = stress.limits_of(
        [_criterion("ttft_ms", "p95", 1_000.0)]  # type: ignore[list-item]
    )
    return capacity(seen, limits, np.random.default_rng(0))


def _criterion(metric: str, stat: str | None, limit: float) -> object:
    from streamgauge.verdict import Criterion

    return Criterion(name=f"{metric} < {limit:g}", metric=metric, stat=stat, op="<", limit=limit, unit="")


def test_capacity_passes_fails_and_stays_open_by_its_interval():
    table = found((1, 100), (50, 300), (60, 2_500), (100, 4_000))
    said = {
        limit: weigh_capacity(table, ask("capacity", ">=", limit), "users").answer  # type: ignore[arg-type]
        for limit in (30, 55, 90)
    }
    assert said == {30: "pass", 55: "inconclusive", 90: "fail"}
    all_within = weigh_capacity(found((1, 100), (50, 110)), ask("capacity", ">=", 100), "users")  # type: ignore[arg-type]
    assert all_within.answer == "inconclusive"
    assert "climb higher" in (all_within.said or "")


def test_errors_pass_where_no_level_can_be_above_and_fail_where_one_surely_is():
    quiet = [Level(at, np.ones(80), 80, 0) for at in (1, 10, 100)]
    assert weigh_errors(quiet, ask("level_error_rate", "<", 0.05), 0.95).answer == "pass"
    loud = [*quiet, Level(150, np.ones(80), 80, 12)]
    assert weigh_errors(loud, ask("level_error_rate", "<", 0.05), 0.95).answer == "fail"
    assert "at worst 15 % of 80 requests" in (weigh_errors(loud, ask("level_error_rate", "<", 0.05), 0.95).said or "")
    few = [Level(1, np.ones(20), 20, 0)]
    assert weigh_errors(few, ask("level_error_rate", "<", 0.05), 0.95).answer == "inconclusive"
    assert weigh_errors([], ask("level_error_rate", "<", 0.05), 0.95).why == "not_measured"


def test_recovery_fails_only_where_it_was_looked_at_for_as_long_as_the_limit():
    def after(seconds: float | None, looked_s: float, why: str | None = None) -> Recovery:
        return Recovery(after="the climb", start_ns=0, looked_s=looked_s, seconds=seconds, why=why)

    limit = ask("recovery_s", "<", 30.0)
    assert weigh_recovery([after(2.0, 60), after(5.5, 60)], limit).value == 5.5
    assert weigh_recovery([after(2.0, 60), after(35.0, 60)], limit).answer == "fail"
    assert weigh_recovery([after(None, 60, "not_back")], limit).answer == "fail"
    assert weigh_recovery([after(None, 8, "not_back")], limit).answer == "inconclusive"
    assert weigh_recovery([after(None, 8, "too_few")], limit).why == "not_measured"


def test_what_is_still_open_is_no_failure_yet(tmp_path):
    one = climber(settings(tmp_path), tmp_path)
    one.hear(Began(Phase("stress", (), 50, duration_ns=3 * S), S))
    assert [(level.n, level.errors) for level in one.seen()] == [(0, 0)]
    assert math.isfinite(one.seen()[0].level)
