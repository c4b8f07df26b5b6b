"""A target's rpm paces the load: the arithmetic as a table, the estimate, and one run by the server's own log."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import inline, streamgauge
from streamgauge.clock import SystemClock
from streamgauge.dialects import with_options
from streamgauge.journal import Journal
from streamgauge.plan import Hold, Lane, pick, spacing_ns, whose
from streamgauge.run import conduct
from streamgauge.sample import Sample
from streamgauge.simulator import Simulator, start
from streamgauge.spec.load import load_spec
from streamgauge.spec.resolve import resolve
from streamgauge.spec.settings import Overrides
from streamgauge.suite.folder import records
from streamgauge.suite.prepare import preflight, prepare

S = 1_000_000_000
SPEC = """\
[targets.fast]
url = "{url}/v1/chat/completions"
dialect = "openai-chat"
model = "sim-t5-i1-n2"
[targets.paced]
url = "{url}/v1/chat/completions"
dialect = "openai-chat"
model = "sim-t5-i1-n3"
rpm = {rpm}
[tests.ttft]
prompts = ["short"]
"""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start() as running:
        yield running


@pytest.mark.parametrize(
    ("rpm", "shards", "spacing_s"),
    [
        (60, 1, 1.0),
        (400, 1, 0.15),
        (400, 3, 60 / 133),
        (1, 1, 60.0),
        (0.5, 1, 120.0),
        (1.5, 1, 60.0),
        (2, 4, 120.0),
        (6_000, 2, 0.02),
    ],
)
def test_starts_are_spaced_so_that_no_minute_has_too_many(rpm: float, shards: int, spacing_s: float) -> None:
    assert spacing_ns(rpm, shards) / S == pytest.approx(spacing_s, abs=1e-8)


@given(st.integers(1, 5_000), st.integers(1, 16), st.integers(0, 60 * S))
def test_all_shards_together_start_at_most_rpm_in_any_minute(rpm: int, shards: int, begin: int) -> None:
    spacing = spacing_ns(rpm, shards)
    # Any minute, from `begin` on: a shard whose starts lie on k * spacing has so many in it.
    each = (begin + 60 * S - 1) // spacing - (begin - 1) // spacing
    assert each * shards <= rpm or rpm < shards


def test_whose_turn_it_is_agrees_with_what_is_picked() -> None:
    lane = Lane(("a", "b", "c"), ("short", "long"), Hold(4))
    assert [whose(lane, k) for k in range(20)] == [pick(lane, k, 3)[0] for k in range(20)]


def test_a_run_starts_no_request_before_the_pace_allows_it(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "streamgauge.toml").write_text(SPEC.format(url=simulator.url, rpm=900))
    done = streamgauge("run", "ttft", "-q", "--json", "--requests", "20", "--seed", "4", cwd=tmp_path)
    report = json.loads(done.out)
    assert report["outcomes"] == {"ok": 40}
    came = {r.trace_id: r.request_complete_ns for r in simulator.log(at_least=44) if r.model == "sim-t5-i1-n3"}
    assert len(came) == 22
    (table,) = tmp_path.glob("tests/performance/reports/*.csv")
    rows = [row for row in csv.DictReader(table.read_text("utf-8").splitlines()) if row["target"] == "paced"]
    starts = sorted((int(row["start_ns"]), came[row["id"]]) for row in rows)
    assert all(start <= complete for start, complete in starts), "by the server's own log none came before its start"
    # 900 a minute is one in 66.7 ms.
    assert min(later - earlier for (earlier, _), (later, _) in itertools.pairwise(starts)) > 66.5e6
    assert starts[-1][1] - starts[0][0] > 21 * 66.5e6
    assert any("paced to 900 requests a minute" in note for note in report["measurement"]["notes"])
    assert "paced: its rpm = 900 held the load back; raise it, or ask for fewer streams" in report["warnings"]
    paced = next(g for g in report["groups"] if g["target"] == "paced" and g["prompt"] is None)
    # Four slots wait 267 ms for the pace: the plan's rule, not a late start.
    assert paced["metrics"]["queue_ms"]["p50"] < 130
    assert paced["metrics"]["ttft_ms"]["p50"] < 160, "and no part of what the user waited"


def test_who_waits_behind_a_paced_target_is_not_late_either(simulator: Simulator, tmp_path: Path) -> None:
    path = tmp_path / "streamgauge.toml"
    path.write_text(SPEC.format(url=simulator.url, rpm=900) + "[tests.concurrent]\n")
    spec = load_spec(path, speak=with_options, environ={})
    plan = prepare(resolve(spec, None, {}, "concurrent", Overrides(concurrency=8, duration_s=1.5)), 3, tmp_path)
    clock = SystemClock()
    journal = Journal(tmp_path)
    conduct(preflight(plan.load, clock), tmp_path, clock, journal, lambda _: None)
    journal.close()
    held = [one for one in records(tmp_path) if isinstance(one, Sample) and one.phase == "hold"]
    assert 20 <= len(held) <= 2 * 24, "targets take turns, so the paced one sets the rate of both"
    waited = sorted(one.start_ns - one.due_ns for one in held if one.start_ns is not None)
    assert waited[len(waited) // 2] < 130e6


def test_the_plan_knows_the_pace(tmp_path: Path) -> None:
    (tmp_path / "streamgauge.toml").write_text(SPEC.format(url="http://127.0.0.1:9", rpm=30))
    done = inline("run", "ttft", "--requests", "60", "--dry-run", cwd=tmp_path)
    assert done.code == 0
    said = " ".join(done.out.split())
    assert "paced paced to 30 a minute, about 2.1 min" in said
    assert "note: paced: paced to 30 requests a minute (rpm)" in said


def test_a_plan_says_how_many_streams_a_pace_leaves(tmp_path: Path) -> None:
    (tmp_path / "streamgauge.toml").write_text(SPEC.format(url="http://127.0.0.1:9", rpm=60))
    done = inline("run", "concurrent", "--dry-run", cwd=tmp_path)
    assert done.code == 0
    assert "rpm leaves about 7 of 100 streams open at a time to fast, paced" in done.out


def test_a_rate_above_the_rpm_does_not_start_and_both_are_named(tmp_path: Path) -> None:
    (tmp_path / "streamgauge.toml").write_text(SPEC.format(url="http://127.0.0.1:9", rpm=60))
    done = inline("run", "ttft", "--rate", "3", "--duration", "10s", cwd=tmp_path)
    assert done.code == 2
    assert "rate = 3 a second sends paced 90 requests a minute; targets.paced.rpm is 60" in done.err
    assert "--rate 2," in done.err
    assert inline("run", "ttft", "--rate", "2", "--duration", "10s", "--dry-run", cwd=tmp_path).code == 0
