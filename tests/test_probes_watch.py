"""Readings in time: one probe delays no other, what fails is a reading with its words, nothing ends silently."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamgauge.clock import MS, SystemClock
from streamgauge.probes.contract import Asking, Gauges, ProbeError
from streamgauge.probes.kinds import KINDS, probe_of
from streamgauge.probes.watch import Pace, Probe, watching
from streamgauge.sample import Reading
from streamgauge.suite import folder as run_folder

CLOCK = SystemClock()
FAST = Pace(every_s=0.05, snapshot_s=0.4)


def steady(asking: Asking) -> Gauges:
    return Gauges({"rss": 5.0}, instance="a", uptime_s=1.0, pid=7, collected=asking.collect)


def watched(folder: Path, *probes: Probe, pace: Pace = FAST, at_least: int = 12) -> list[Reading]:
    """What was read until the last probe had given so many readings, however long a busy machine takes."""
    with watching(probes, folder / run_folder.READINGS, pace):
        until = time.monotonic() + 30
        while sum(one.probe == probes[-1].name for one in run_folder.readings(folder)) < at_least:
            assert time.monotonic() < until
            time.sleep(0.02)
    return run_folder.readings(folder)


def seconds(readings: list[Reading]) -> float:
    """From the first to the last."""
    return (readings[-1].at_ns - readings[0].at_ns) / 1e9


def test_readings_come_in_their_pace_with_snapshots_at_the_start_and_the_end(tmp_path: Path) -> None:
    began = CLOCK.now()
    readings = watched(tmp_path, Probe("app", steady, CLOCK))
    assert 12 < len(readings) <= seconds(readings) / FAST.every_s + 3, "one more late at the start, one at the end"
    assert readings[0].snapshot
    assert readings[-1].snapshot
    assert 3 <= sum(one.snapshot for one in readings) <= seconds(readings) / FAST.snapshot_s + 3
    first = readings[0]
    assert (first.probe, first.instance, first.values, first.uptime_s, first.pid) == ("app", "a", {"rss": 5.0}, 1.0, 7)
    assert all(before.at_ns < after.at_ns for before, after in itertools.pairwise(readings))
    assert began < readings[0].at_ns < readings[-1].at_ns < CLOCK.now()


def test_before_garbage_is_collected_for_a_snapshot_there_is_a_plain_reading(tmp_path: Path) -> None:
    readings = watched(tmp_path, Probe("app", steady, CLOCK, collects=True), pace=Pace(0.05, 9.0, collect=True))
    told = [(one.snapshot, one.collected) for one in readings]
    assert told[:2] == [(False, False), (True, True)]
    assert told[-2:] == [(False, False), (True, True)]
    assert not any(one.collected for one in watched(_below(tmp_path), Probe("app", steady, CLOCK, collects=True)))


def _below(folder: Path) -> Path:
    made = folder / "other"
    made.mkdir()
    return made


def test_a_probe_that_hangs_or_fails_delays_no_other_one(tmp_path: Path) -> None:
    let_go = threading.Event()

    def hangs(_: Asking) -> Gauges:
        let_go.wait(0.5)
        return Gauges({"rss": 1.0})

    def fails(_: Asking) -> Gauges:
        raise ProbeError("401: no\nentry for tok-123456 \x1b[31m")

    redact = lambda text: text.replace("tok-123456", "[redacted]")  # noqa: E731  # as a Redactor's method
    probes = (Probe("hangs", hangs, CLOCK), Probe("fails", fails, CLOCK, redact), Probe("steady", steady, CLOCK))
    readings = watched(tmp_path, *probes)
    let_go.set()
    count = Counter(one.probe for one in readings)
    assert 1 <= count["hangs"] <= seconds(readings) / 0.5 + 3, "the turns it misses are gaps"
    assert count["steady"] > count["hangs"]
    errors = {one.error for one in readings if one.probe == "fails"}
    (error,) = errors
    assert error is not None
    assert error.startswith("401: no")
    assert "[redacted]" in error
    assert error.isprintable()
    assert all(one.values == {} for one in readings if one.error is not None)
    assert max(one.took_ns for one in readings if one.probe == "hangs") > 200 * MS


def test_a_bug_of_a_probe_ends_the_run_loudly_and_after_it(tmp_path: Path) -> None:
    def wrong(_: Asking) -> Gauges:
        raise ZeroDivisionError("a bug")

    done = []

    def load() -> None:
        with watching([Probe("app", wrong, CLOCK)], tmp_path / "r", FAST):
            time.sleep(0.1)
            done.append("the load went on")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        load()
    assert done


def test_without_probes_there_is_no_file_and_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with watching([], tmp_path / run_folder.READINGS, FAST):
        assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, signal, sys, time
from pathlib import Path
from streamgauge.clock import SystemClock
from streamgauge.probes.contract import Gauges
from streamgauge.probes.watch import Pace, Probe, watching
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
probe = Probe("app", lambda asking: Gauges({"rss": 5.0}), SystemClock())
with watching([probe], Path(sys.argv[1]), Pace(0.02)) as book:
    until = time.monotonic() + 30
    while not book.disk and time.monotonic() < until:
        time.sleep(0.02)
print(book.disk)
"""


def test_a_full_disk_ends_the_readings_and_not_the_run(tmp_path: Path) -> None:
    path = tmp_path / run_folder.READINGS
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=300, check=True
    )
    assert f"cannot write {path}" in done.stdout
    assert len(run_folder.readings(tmp_path)) >= 2, "what was written stays"


def test_an_interrupted_run_waits_for_no_last_reading(tmp_path: Path) -> None:
    with watching([Probe("app", steady, CLOCK)], tmp_path / run_folder.READINGS, Pace(60.0)) as book:
        until = time.monotonic() + 30
        while not run_folder.readings(tmp_path) and time.monotonic() < until:
            time.sleep(0.02)
        book.last = False
    assert len(run_folder.readings(tmp_path)) == 1


def test_the_kind_that_the_docs_add_works_as_it_stands_there(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "probes.md").read_text("utf-8")
    source, line = re.findall(r"```python\n(.*?)```", page.split("## A new kind in five minutes")[1], re.DOTALL)
    names: dict[str, Any] = {"__name__": "a_new_kind"}
    exec(compile(source, "docs/probes.md", "exec", dont_inherit=True), names)
    before = dict(KINDS)
    try:
        exec(compile(line, "docs/probes.md", "exec"), {**names, "KINDS": KINDS})
        ask = probe_of(names["OfCgroup"](str(tmp_path)), CLOCK)
        assert "is it a cgroup of version 2?" in str(Probe("c", ask, CLOCK).read(Asking()).error)
        (tmp_path / "memory.current").write_text("5000000\n")
        (tmp_path / "memory.max").write_text("max\n")
        assert Probe("c", ask, CLOCK).read(Asking()).values == {"rss": 5e6}
        (tmp_path / "memory.max").write_text("8000000\n")
        assert Probe("c", ask, CLOCK).read(Asking()).values == {"rss": 5e6, "memory_limit": 8e6}
    finally:
        KINDS.clear()
        KINDS.update(before)
