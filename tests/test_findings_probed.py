"""Findings of whole runs with probes: planted leaks and restarts are named with their numbers, clean ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probed import MB, Plan, growing, memory_run, noisy, reading, readings, with_burst
from streamgauge.reports import ReportGenerator
from streamgauge.reports.document import Document
from test_memory import simulated

TIMES = np.arange(0.0, Plan().over, 5.0)


def told(document: Document) -> dict[str, str]:
    return {one.name: one.words for one in document.findings}


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("noise=2", set()),
        ("leak=40,noise=2", {"memory_grows"}),
        ("leak=400,noise=5", {"memory_grows"}),
        ("saw=30:20,noise=1", set()),
        ("saw=60:200,noise=1", {"collector_sawtooth"}),
        ("cache=200:400,noise=2", set()),
        ("keep=4,noise=1", {"memory_not_given_back"}),
        ("open=4,noise=1", set()),
    ],
)
def test_what_the_simulator_plants_in_memory_is_named(script: str, names: set[str], tmp_path: Path) -> None:
    document = memory_run(tmp_path, simulated(script))
    found = told(document)
    assert set(found) - {"left_by_requests", "restart_seen"} == names, found


def test_a_leak_that_passes_is_a_finding_with_its_rate(tmp_path: Path) -> None:
    document = memory_run(tmp_path, readings(growing(40 * MB)))
    growth = next(one for one in document.criteria if one.metric == "memory_growth_mb_per_h")
    assert growth.verdict == "pass"
    finding = next(one for one in document.findings if one.name == "memory_grows")
    assert finding.evidence.values["mb_per_h"] == pytest.approx(40, rel=0.1)
    assert finding.later


def test_a_leak_that_fails_has_the_lines_of_its_list_looked_at(tmp_path: Path) -> None:
    document = memory_run(tmp_path, readings(growing(400 * MB)))
    states = {one.line: one.state for one in document.checklist if one.cause == "Memory leaks"}
    assert states["Analyze heap snapshots"] == "found"
    assert states["Review connection cleanup"] == "not_looked_at"
    text = ReportGenerator(document, ()).markdown()
    assert "Root causes, line by line" in text
    assert "Analyze heap snapshots" in text


def test_connections_that_stay_are_told_beside_the_memory_they_hold(tmp_path: Path) -> None:
    heap = growing(150 * MB)
    read = [
        reading(
            float(t),
            {"heap_used": float(heap(t)), "connections": float(10 + min(t, 3_600.0) / 30), "descriptors": 40.0},
        )
        for t in TIMES
    ]
    document = memory_run(tmp_path, read)
    assert told(document)["connections_kept"].startswith("connections of app rise from ")
    states = {one.line: one.state for one in document.checklist}
    assert states["Review connection cleanup"] == "found"


def test_growth_outside_of_the_heap_and_a_burst_that_is_kept_are_told(tmp_path: Path) -> None:
    heap, rss = noisy(), growing(400 * MB)
    read = [reading(float(t), {"heap_used": float(heap(t)), "rss": float(rss(t))}) for t in TIMES]
    assert set(told(memory_run(tmp_path, read))) == {"outside_heap"}
    kept = memory_run(tmp_path / "second", readings(with_burst(noisy(), 200 * MB, 0.9)))
    assert set(told(kept)) == {"memory_not_given_back"}


def test_a_restart_at_the_limit_is_told(tmp_path: Path) -> None:
    found = told(memory_run(tmp_path, simulated("leak=900,noise=1,limit=300")))
    assert "began anew" in found["restart_seen"]
