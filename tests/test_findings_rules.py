"""Rules over made facts: provider, network, instances, probes, memory, capacity; the order, silence, and the docs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from made import MS, START, collected, made
from streamgauge.compare import comparisons
from streamgauge.findings import RULES, Finding, RunFacts, find
from streamgauge.findings.checklist import OPTIMISATIONS, ROOT_CAUSES, checklist
from streamgauge.findings.steps import server_timing
from streamgauge.sample import Outcome, Reading, Sample
from streamgauge.spec.silence import FINDINGS
from streamgauge.strain import Crash
from streamgauge.summary import Phase, scope_of
from streamgauge.verdict import Criterion, judge

DOCS = (Path(__file__).parent.parent / "docs" / "findings.md").read_text("utf-8")
SEEDS = {
    "High TTFT": 5,
    "High error rates": 5,
    "Memory leaks": 5,
    "Connection drops": 5,
}
S = 1_000 * MS


def run(samples: Iterable[Sample] = (), targets: Sequence[str] | None = None, **facts: Any) -> RunFacts:
    columns = collected(samples).columns()
    scope = scope_of(columns, targets=targets)
    return RunFacts(columns, scope, START, **facts)


def named(facts: RunFacts) -> dict[str, Finding]:
    return {one.name: one for one in find(facts).findings}


# What the strategy lists


def test_every_rule_is_documented_in_one_row_with_its_five_parts() -> None:
    rows = [row for row in DOCS.splitlines() if row.startswith("| `")]
    for name in RULES:
        own = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        assert len(own) == 1, f"docs/findings.md has {len(own)} rows for {name}"
        assert len([cell for cell in own[0].split("|")[1:-1] if cell.strip()]) == 5, own[0]


def test_the_names_that_a_spec_may_silence_are_those_of_the_rules() -> None:
    assert sorted(FINDINGS) == sorted(RULES)


def test_the_lists_are_the_strategys_and_each_line_has_rules_that_exist() -> None:
    assert {cause: len(lines) for cause, lines in ROOT_CAUSES.items()} == SEEDS
    for lines in ROOT_CAUSES.values():
        for line in lines:
            assert line.rules, line.text
            assert set(line.rules) <= set(RULES)
            assert line.add
            assert f"| {line.text} |" in DOCS
    assert [len(found) for found in OPTIMISATIONS.values()] == [5, 5, 5]
    for wanted in OPTIMISATIONS.values():
        for name, rules in wanted.items():
            assert rules, name
            assert set(rules) <= set(RULES)
            assert f"| {name} | {', '.join(f'`{rule}`' for rule in rules)} |" in DOCS


# Providers


def beside(a: float, b: float, **facts: Any) -> RunFacts:
    """Two targets, a's median and b's, with usage of 20 tokens in and 33 out."""
    rng = np.random.default_rng(5)
    samples = [
        made(float(middle * np.exp(0.2 * rng.normal())), n=2 * k + i, target=name, input_tokens=20)
        for k in range(150)
        for i, (name, middle) in enumerate((("a", a), ("b", b)))
    ]
    columns = collected(samples).columns()
    controls = facts.get("controls", {})
    scope = scope_of(columns, targets=[name for name in columns.targets if name not in controls.values()])
    asked = Criterion(name="p95", metric="ttft_ms", stat="p95", op="<", limit=1_000.0, unit="ms", target="a")
    return RunFacts(
        columns, scope, START, comparisons=comparisons(columns, scope, controls=controls),
        judged=judge([asked], columns, scope), **facts,
    )  # fmt: skip


def test_a_faster_provider_is_named_where_the_slower_one_fails() -> None:
    found = named(beside(1_200, 400))
    assert "b is " in found["faster_target"].words
    assert "faster_target" not in named(beside(700, 400)), "slower, and fast enough"
    assert "faster_target" not in named(beside(1_200, 1_190))


def test_a_cheaper_provider_that_is_as_fast_is_named_with_both_prices() -> None:
    prices = {"a": (3.0, 15.0), "b": (0.15, 0.6)}
    found = named(beside(400, 380, prices=prices))["cheaper_target"]
    assert "b costs $0.02 for 1,000 such answers instead of $0.56" in found.words
    assert "cheaper_target" not in named(beside(400, 800, prices=prices)), "cheaper and slower"
    assert "cheaper_target" not in named(beside(400, 380)), "no price"


def test_what_the_app_adds_and_what_the_provider_takes_are_told_by_the_control() -> None:
    adds = named(beside(700, 300, controls={"a": "b"}))
    assert adds["app_adds"].words.startswith("a adds ")
    assert "provider_slow" not in adds
    slow = named(beside(1_300, 1_200, controls={"a": "b"}))
    assert "provider_slow" in slow
    assert "app_adds" not in slow


# Network and instances


def connecting(*took_ms: float, ttft_ms: float = 100.0, late_ms: float = 0.0) -> list[Sample]:
    found = []
    for n, ms in enumerate(took_ms):
        due = START + n * 200 * MS
        found.append(
            made(ttft_ms + ms, n=n, due_ms=200.0 * n, conn=n, connect_ns=due + round(ms * MS), start_ns=due,
                 late_ns=round(late_ms * MS))
        )  # fmt: skip
    return found


def test_distance_is_told_by_the_nearest_connections() -> None:
    assert "60 ms away" in named(run(connecting(*[60.0] * 12)))["far_away"].words
    assert "far_away" not in named(run(connecting(*[0.4] * 12)))
    assert "far_away" not in named(run(connecting(*[0.4, 0.3, *[90.0] * 10]))), "a busy moment is no distance"
    assert "far_away" not in named(run(connecting(*[60.0] * 12, late_ms=59.5))), "we were late to notice"
    assert "far_away" not in named(run(connecting(*[60.0] * 12, ttft_ms=2_000))), "nothing beside the model"


def test_connections_that_were_tried_again_are_told() -> None:
    found = named(run(connecting(*[1.0] * 20, *[1_003.0] * 4)))
    assert found["connects_again"].evidence.k == 4
    assert "connects_again" not in named(run(connecting(*[1_003.0] * 24))), "all alike: that is the way"


def test_an_instance_that_fails_or_gets_far_more_than_its_share_is_told() -> None:
    def spread(names: Sequence[str], bad: str = "") -> list[Sample]:
        return [
            made(100.0, n=n, instance=name, conn=n % 40, http_status=404 if name == bad and n % 4 == 0 else None,
                 outcome=Outcome.HTTP_ERROR if name == bad and n % 4 == 0 else Outcome.OK)
            for n, name in enumerate(names)
        ]  # fmt: skip

    even = [f"web-{n % 3}" for n in range(240)]
    assert named(run(spread(even))) == {}
    assert "web-1 fails 20 of 80, the others 0 of 160" in named(run(spread(even, "web-1")))["uneven_instances"].words
    most = ["web-0" if n % 10 else f"web-{1 + n % 20 // 10}" for n in range(600)]
    assert "web-0 got 540 of 600" in named(run(spread(most)))["uneven_instances"].words


def test_server_timing_is_read_as_it_is_written() -> None:
    text = 'db;dur=12.5;desc="a, b; c", cache, llm;dur=80, db;dur=1, bad;dur=x'
    assert server_timing(text) == {"db (a, b; c)": 12.5, "llm": 80.0, "db": 1.0}


@pytest.mark.parametrize(("entry", "told"), [("gfet4t7; dur=90", set()), ("llm; dur=90", {"step_slow"})])
def test_an_entry_that_times_the_whole_answer_is_no_step(entry: str, told: set[str]) -> None:
    """`gfet4t7` is what the front end of a large provider says of each answer as a whole."""
    slow = [made(100.0, n=n, due_ms=1_000.0 * n, headers={"Server-Timing": entry}) for n in range(30)]
    columns = collected(slow).columns()
    phases = [Phase(name="hold", level=4, start_ns=START, end_ns=START + 30 * S)]
    facts = RunFacts(columns, scope_of(columns, phases=phases), START)

    assert {one.name for one in find(facts, []).findings} & {"step_slow"} == told


# Probes


def readings(**gauges: Sequence[float]) -> list[Reading]:
    """One a second."""
    times = range(len(next(iter(gauges.values()))))
    return [
        Reading(probe="node", at_ns=START + n * S, took_ns=MS, pid=7,
                values={name: float(values[n]) for name, values in gauges.items()})
        for n in times
    ]  # fmt: skip


def held(read: Sequence[Reading], **facts: Any) -> RunFacts:
    """A run of as many seconds with four streams."""
    samples = [made(100.0, n=n, due_ms=1_000.0 * n) for n in range(len(read))]
    columns = collected(samples).columns()
    phases = [Phase(name="hold", level=4, start_ns=START, end_ns=START + len(read) * S)]
    return RunFacts(columns, scope_of(columns, phases=phases), START, readings=read, **facts)


def test_counts_that_only_rise_are_told_and_others_are_not() -> None:
    rising, flat = [20 + n / 2 for n in range(120)], [20 + n % 5 for n in range(120)]
    found = named(held(readings(descriptors=rising, threads=flat, listeners=rising)))
    assert set(found) == {"connections_kept", "gauge_rises"}
    assert found["gauge_rises"].words.startswith("listeners of node rise from ")
    assert named(held(readings(descriptors=flat, connections=[4.0] * 120))) == {}
    coming = [20 + min(n, 8) * 5 for n in range(120)]
    assert named(held(readings(descriptors=coming))) == {}, "the streams' own coming"


def test_a_core_that_is_used_up_is_told() -> None:
    assert "97 % of one core" in named(held(readings(cpu_s=[0.97 * n for n in range(60)])))["cpu_busy"].words
    assert named(held(readings(cpu_s=[0.4 * n for n in range(60)]))) == {}


def test_a_restart_is_told_and_several_processes_by_turns_are_none() -> None:
    def answered(pids: Sequence[int]) -> list[Reading]:
        return [Reading(probe="node", at_ns=START + n * S, took_ns=MS, pid=pid) for n, pid in enumerate(pids)]

    found = named(held(answered([7] * 20 + [9_001] * 20)))
    assert "node began anew once, first 20 s into the run" in found["restart_seen"].words
    assert named(held(answered([7, 9_001] * 20))) == {}


def test_a_collectors_sawtooth_is_told_as_one() -> None:
    saw = [60e6 + (n % 20) * 8e6 for n in range(120)]
    assert "gives 152 MB back every 20 s" in named(held(readings(heap_used=saw)))["collector_sawtooth"].words
    assert named(held(readings(heap_used=[60e6 + (n % 20) * 1e6 for n in range(120)]))) == {}


# Memory and capacity, by the fields of their sections


def series(**changed: Any) -> SimpleNamespace:
    usual = {
        "probe": "node", "instance": "", "gauge": "heap_used", "judged": True, "mixed": False, "readings": 700,
        "failed": 0, "judged_from_s": 300.0, "judged_to_s": 3_600.0, "growth_mb_per_h": 1.0, "low": -4.0, "high": 6.0,
        "shape": "flat", "growth_kb_per_request": None, "kb_per_request_low": None, "limit_mb": None,
        "limit_reached_in_h": None, "before_mb": 100.0, "peak_mb": 180.0, "grown_mb": 0.0, "after_mb": 105.0,
        "cleanup": 0.94,
    }  # fmt: skip
    return SimpleNamespace(**{**usual, **changed})


@pytest.mark.parametrize(
    ("changed", "names", "words"),
    [
        ({}, set(), ""),
        ({"growth_mb_per_h": 41.0, "low": 33.0, "high": 49.0, "shape": "line"}, {"memory_grows"}, "41 MB/h [33 to 49]"),
        ({"growth_mb_per_h": 41.0, "low": 33.0, "shape": "plateau"}, set(), ""),
        ({"growth_mb_per_h": 41.0, "low": 8.0, "shape": "line"}, set(), ""),
        (
            {"growth_mb_per_h": 400.0, "low": 390.0, "high": 410.0, "shape": "line", "growth_kb_per_request": 12.0,
             "kb_per_request_low": 11.0, "limit_mb": 512.0, "limit_reached_in_h": 2.0},
            {"memory_grows", "left_by_requests"}, "12 KB a request; the limit of 512 MB in 2 h",
        ),
        ({"after_mb": 170.0, "cleanup": 0.125}, {"memory_not_given_back"}, "of the 80 MB that the burst took, 10 MB"),
        ({"limit_mb": 190.0}, {"memory_limit_near"}, "95 % of its limit"),
        ({"mixed": True, "low": 300.0, "growth_mb_per_h": 400.0, "shape": "line"}, set(), ""),
    ],
    ids=["clean", "40 MB/h", "a cache that fills", "not sure", "400 MB/h", "not given back", "near the limit", "mixed"],
)  # fmt: skip
def test_memory_is_told_by_its_section(changed: dict[str, Any], names: set[str], words: str) -> None:
    section: Any = SimpleNamespace(series=[series(**changed)])
    found = named(run([made(n=1)], sections={"memory": section}))
    assert set(found) == names
    assert not names or any(words.replace("12 KB", "12.0 KB") in one.words for one in found.values()), found
    assert all(one.later for one in found.values())


def test_growth_outside_of_the_heap_is_told_apart() -> None:
    rss = series(gauge="rss", judged=False, growth_mb_per_h=80.0, low=70.0, high=90.0, shape="line")
    section: Any = SimpleNamespace(series=[series(), rss])
    assert set(named(run([made(n=1)], sections={"memory": section}))) == {"outside_heap"}


def test_capacity_is_told_for_each_instance() -> None:
    rungs = [SimpleNamespace(level=level, n=100, errors=e, error_rate=e / 100, ttft_p95_ms=300.0, phase=phase)
             for level, e, phase in ((25.0, 0, "linear"), (50.0, 0, "queueing"), (75.0, 12, "shedding"))]  # fmt: skip
    strain: Any = SimpleNamespace(unit="users", value=62.0, low=58.0, high=66.0, at_least=False, crashes=[],
                                  limited_by="ttft_ms.p95 < 1000", levels=rungs, failures_fast=True)  # fmt: skip
    two = [made(100.0, n=n, instance=f"web-{n % 2}") for n in range(80)]
    found = named(run(two, sections={"capacity": strain}))
    assert "scale out at 29 open streams an instance" in found["scale_out"].words
    assert found["sheds"].words == "from 75 users on requests are refused, 12.0% of them there"
    assert next(iter(found)) == "sheds", "what loses answers comes first"
    strain.at_least, rungs[2].phase = True, "collapse"
    assert set(named(run(two, sections={"capacity": strain}))) == {"collapses"}


def crashing(at_s: float, back_s: float | None, words: str = "nobody listened", failed: int = 6) -> Any:
    crash = Crash(words=words, last_ns=START + round((at_s - 1) * S), at_ns=START + round(at_s * S), level=75.0,
                  back_ns=None if back_s is None else START + round(back_s * S), failed=failed, n=24)  # fmt: skip
    return SimpleNamespace(unit="users", value=62.0, low=58.0, high=66.0, at_least=True, crashes=[crash], levels=[],
                           limited_by="ttft_ms.p95 < 1000", failures_fast=True)  # fmt: skip


def test_a_crash_costs_what_was_seen_and_is_told_once() -> None:
    """Six connections refused, a restart that a probe read, connections that waited: all of it is the one crash."""
    gone = [made(n=n, due_ms=20_100 + n, outcome=Outcome.CONNECT_REFUSED, end_ms=50.0) for n in range(6)]
    well = connecting(*[1.0] * 14)
    again = [made(2_000.0, n=20 + n, due_ms=20_500.0 + n, connect_ns=START + 21_600 * MS) for n in range(4)]
    readings = [
        Reading(probe="app", at_ns=START + 5 * i * S, took_ns=MS, pid=7 if i < 5 else 9,
                uptime_s=100.0 + 5 * i if i < 5 else 5.0 * i - 21, values={"rss": 1e8})
        for i in range(9)
    ]  # fmt: skip
    alone = named(run([*gone, *again, *well], readings=readings))
    assert {"restart_seen", "connections_refused", "connects_again"} <= set(alone)

    found = named(run([*gone, *again, *well], readings=readings, sections={"capacity": crashing(20, 22)}))
    assert not {"restart_seen", "connections_refused", "connects_again"} & set(found)
    assert found["crashed"].lost == 6 / 24
    assert "6 of 24 requests failed until it was back" in found["crashed"].words
    assert (found["crashed"].evidence.k, found["crashed"].evidence.values["back_after_s"]) == (6, 2.0)

    early = named(run([*gone, *again, *well], readings=readings, sections={"capacity": crashing(2, 3)}))
    assert {"restart_seen", "connections_refused", "connects_again"} <= set(early), "that was another time"


def test_a_crash_that_cost_no_request_is_still_told() -> None:
    found = named(run([made(n=1)], sections={"capacity": crashing(20, 22, "probe app saw a restart", failed=0)}))
    assert found["crashed"].place[0] == 1, "it will, if it goes on"


def test_refusals_told_at_once_are_not_called_late_for_what_a_spike_lost() -> None:
    rung = SimpleNamespace(level=75.0, n=20, errors=10, error_rate=0.5, ttft_p95_ms=None, phase="shedding")
    strain: Any = SimpleNamespace(unit="users", value=62.0, low=58.0, high=66.0, at_least=True, crashes=[],
                                  limited_by="ttft_ms.p95 < 1000", levels=[rung], failures_fast=False)  # fmt: skip
    refused = {"phase": "stress", "level": 75, "outcome": Outcome.RATE_LIMITED, "http_status": 503}
    lost = [made(n=40 + n, phase="spike", level=100, outcome=Outcome.DROPPED, end_ms=3_000.0) for n in range(9)]
    for end_ms, late in ((5.0, False), (2_500.0, True)):
        shed = [made(n=n, end_ms=end_ms, **refused) for n in range(10)]  # type: ignore[arg-type]
        words = named(run([*shed, *lost], sections={"capacity": strain}))["sheds"].words
        assert words.endswith("they are told so late") == late, words


def test_long_streams_that_get_slower_are_told() -> None:
    pace = SimpleNamespace(streams=10, kept=0.6, low=0.55, high=0.65, begin_per_s=20.0, end_per_s=12.0)
    lives: Any = SimpleNamespace(pace=pace)
    assert "end at 60% of the pace" in named(run([made(n=1)], sections={"lives": lives}))["slows_within"].words
    pace.high = 0.97
    assert named(run([made(n=1)], sections={"lives": lives})) == {}


# Order, silence, checklist


def troubled() -> RunFacts:
    """3 % of server errors; a connection for each request."""
    samples = [
        made(900.0, n=n, conn=n, due_ms=400.0 * n, writes_ms=20.0, connect_ns=START + (400 * n + 5) * MS,
             outcome=Outcome.HTTP_ERROR if n % 30 == 7 else Outcome.OK, http_status=500 if n % 30 == 7 else 200,
             error="database is locked" if n % 30 == 7 else None)
        for n in range(150)
    ]  # fmt: skip
    facts = run(samples)
    asked = [
        Criterion(name="p95", metric="ttft_ms", stat="p95", op="<", limit=500.0, unit="ms", target="app"),
        Criterion(name="errors", metric="error_rate", stat=None, op="<", limit=0.005, unit=""),
    ]
    return RunFacts(facts.columns, facts.scope, START, judged=judge(asked, facts.columns, facts.scope))


def test_what_loses_answers_comes_before_what_makes_them_late() -> None:
    assert [one.name for one in find(troubled()).findings] == ["server_errors", "no_keep_alive"]


def test_a_silenced_finding_is_left_out_counted_and_still_found_in_the_checklist() -> None:
    found = find(troubled(), ["server_errors", "lumps"])
    assert [one.name for one in found.findings] == ["no_keep_alive"]
    assert found.silenced == {"server_errors": 1, "lumps": 0}
    line = next(one for one in checklist(troubled(), found) if one.line == "Review server logs for exceptions")
    assert (line.state, line.findings) == ("found", ["server_errors"])


def test_each_line_of_the_matching_lists_is_found_ruled_out_or_not_looked_at() -> None:
    facts = troubled()
    looks = checklist(facts, find(facts))
    assert [one.cause for one in looks] == ["High TTFT"] * 5 + ["High error rates"] * 5
    assert {one.line: one.state for one in looks} == {
        "Check provider API latency": "not_looked_at",
        "Verify network connectivity": "ruled_out",
        "Review server resource usage (CPU, memory)": "not_looked_at",
        "Check database query performance": "not_looked_at",
        "Validate connection pooling": "found",
        "Review server logs for exceptions": "found",
        "Check provider API status": "not_looked_at",
        "Verify authentication/authorization": "ruled_out",
        "Monitor rate limits": "ruled_out",
        "Check timeout configurations": "ruled_out",
    }
    assert all(one.words for one in looks)
    assert all(bool(one.findings) == (one.state == "found") for one in looks)
    assert re.search(r"control = ", looks[0].words)


def test_a_pass_calls_for_no_list() -> None:
    facts = run([made(100.0, n=n) for n in range(150)])
    assert checklist(facts, find(facts)) == []
