"""What a line of the checklist that was not looked at asks for: exactly what the probes of the run did not give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from made import MS, START
from streamgauge.findings import find
from streamgauge.findings.checklist import checklist
from streamgauge.sample import Reading
from streamgauge.verdict import Criterion, judge
from test_findings_rules import S, held, readings


def asked_of(line: str, read: Sequence[Reading], **facts: Any) -> str:
    """What the checklist asks for in this line of a run whose TTFT and memory fail."""
    shaped = replace(held(read or readings(rss=[1e8] * 120), **facts), readings=read)
    failed = [
        Criterion(name="p95", metric="ttft_ms", stat="p95", op="<", limit=50.0, unit="ms", target="app"),
        Criterion(name="growth", metric="memory_growth_mb_per_h", stat=None, op="<", limit=100.0, unit="MB/h"),
    ]
    judged = judge(failed, shaped.columns, shaped.scope)
    judged = [
        msgspec.structs.replace(one, verdict="fail") if one.metric.startswith("memory") else one for one in judged
    ]
    shaped = replace(shaped, judged=judged)
    look = next(one for one in checklist(shaped, find(shaped)) if one.line == line)
    assert look.state == "not_looked_at"
    return look.words


PAGE = {"node": ("json", "http://web.example/api/probe")}
CPU, CONNECTIONS = "Review server resource usage (CPU, memory)", "Review connection cleanup"
CIRCLES, HEAP = "Check for circular references", "Profile with Chrome DevTools"


def test_a_line_without_a_probe_asks_for_one_and_with_one_for_the_gauge_it_lacks() -> None:
    rss = [100e6 + n % 7 for n in range(120)]
    assert asked_of(CPU, []).startswith("a probe of the server ([probes.NAME])")
    page = {"read": readings(rss=rss), "probes": PAGE}
    assert asked_of(CPU, **page) == (
        "`cpu_s` to the JSON page at http://web.example/api/probe and its place to paths in [probes.node] "
        "(docs/probes.md)"
    )
    assert asked_of(CONNECTIONS, **page) == (
        "`connections` or `descriptors` to the JSON page at http://web.example/api/probe (docs/probes.md)"
    )
    assert asked_of(HEAP, **page).startswith("`heap_used` to the JSON page at http://web.example/api/probe")
    process = {"read": readings(rss=rss), "probes": {"node": ("process", "process 7")}}
    assert asked_of(HEAP, **process).startswith("a JSON page that tells `heap_used`")
    assert "the right to read `cpu_s` of process 7" in asked_of(CPU, **process)


def test_a_probe_that_gave_nothing_or_too_little_is_not_asked_for_again() -> None:
    silent = [Reading(probe="node", at_ns=START + n * S, took_ns=MS, error="refused") for n in range(30)]
    assert asked_of(CONNECTIONS, silent, probes=PAGE) == "a probe that reads: node gave none (refused)"
    few = readings(connections=[4.0] * 5)
    assert asked_of(CONNECTIONS, few, probes=PAGE) == "longer runs: node was read 5 times, 12 readings are needed"


def test_a_heap_that_was_never_collected_asks_for_the_collection() -> None:
    heap = readings(heap_used=[60e6 + n % 5 for n in range(120)])
    assert asked_of(CIRCLES, heap, probes=PAGE).startswith('collect = "?collect=1" to [probes.node]')
    once = [msgspec.structs.replace(one, collected=n == 3) for n, one in enumerate(heap)]
    assert "node was read once after a collection, 3 are needed" in asked_of(CIRCLES, once, probes=PAGE)
    assert asked_of(CIRCLES, readings(rss=[1e8] * 120), probes=PAGE).startswith("`heap_used` to the JSON page")
