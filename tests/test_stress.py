"""`stress` against services whose breaking point is known: the simulator, a real proxy's limit, real servers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behind import program, proxy
from cli import inline, undisturbed
from standing_still import steadily
from streamgauge.simulator import read, start
from streamgauge.spec.settings import Overrides
from whole import measured

SERVER = Path(__file__).parent / "strained_server.py"
MODEL = "sim-t200-i10-n10"
FIRST_S, WHOLE_S = 0.2, 0.3
"""Of the model: its first token, and (nearly) its whole answer."""
SPEC = """
[targets.service]
url = "{url}"
dialect = "openai-chat"
model = "{model}"

[tests.stress]
duration = 1.2
spike = 1
recovery = 3
finer = 2
{more}
"""
PATH = "/v1/chat/completions"
USERS = "levels = [1, 10, 20, 40, 60]"
AT_ONCE = threading.Semaphore(3)
"""So many runs at a time: they mostly sleep, but not at their beginnings."""


def fits(places: int) -> float:
    """Users of so many places whose first token comes within 1 s: a turn of all places takes WHOLE_S."""
    return places * (1 + (1.0 - FIRST_S) / WHOLE_S)


@contextmanager
def strained(kind: str, amount: float) -> Iterator[str]:
    """A real server that bears so much; its url."""
    process = subprocess.Popen([sys.executable, SERVER, kind, str(amount)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}{PATH}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Run:
    """One run in a thread of its own, and its report. `once`: its server does not live through a second one."""

    def __init__(self, folder: Path, url: str, more: str, overrides: Overrides, *, once: bool = False) -> None:
        self._once = once
        self.folder, self.log = folder, Path()
        self._report: dict[str, Any] = {}
        self._said: BaseException | None = None
        (folder / "streamgauge.toml").write_text(SPEC.format(url=url, model=MODEL, more=more))
        self._overrides = overrides
        self._thread = threading.Thread(target=self._go)
        self._thread.start()

    def _go(self) -> None:
        try:
            with AT_ONCE:
                self._report = self._measured() if self._once else steadily(self._measured)
        except BaseException as error:  # whatever it is, the test that asks for the report tells it
            self._said = error

    def _measured(self) -> dict[str, Any]:
        return measured("stress", self.folder, self._overrides)

    def ended(self) -> dict[str, Any]:
        self._thread.join()
        if self._said is not None:
            raise self._said
        return self._report

    def wait(self) -> None:
        self._thread.join()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """All of them, started at once."""
    with ExitStack() as stack:
        found = {}

        def begin(name: str, url: str, more: str, overrides: Overrides | None = None, *, once: bool = False) -> None:
            found[name] = Run(tmp_path_factory.mktemp(name), url, more, overrides or Overrides(), once=once)

        log = tmp_path_factory.mktemp("log") / "truth"
        sim = stack.enter_context(start(log=str(log), model=MODEL, capacity=10))
        begin("queue", f"{sim.url}/v1/chat/completions", USERS)
        found["queue"].log = log
        sim = stack.enter_context(start(log=False, model=MODEL, capacity=10, queue=20))
        begin("shed", f"{sim.url}/v1/chat/completions", USERS)
        begin("thrash", stack.enter_context(strained("thrash", 15)), USERS)
        begin("dies", stack.enter_context(strained("dies", 30)), USERS, once=True)
        reviving = stack.enter_context(strained("revives", 30))
        probe = f'{USERS}\n[probes.page]\nkind = "json"\nurl = "{reviving.removesuffix(PATH)}/probe"\n'
        begin("revives", reviving, probe.replace("60]", "60, 61, 62, 63, 64]"), once=True)
        sim = stack.enter_context(start(log=False, model="sim-t200-i1-n2", capacity=10))
        overloaded = Overrides(rate=80.0, concurrency=1_500, duration_s=2.5)
        begin("overload", f"{sim.url}/v1/chat/completions", "levels = [20, 40, 60, 80]", overloaded)
        begin("limits", stack.enter_context(strained("limits", 50)), "", Overrides(rate=100.0, concurrency=300))
        if program("haproxy"):
            plain = stack.enter_context(start(log=False, model=MODEL))
            folder = tmp_path_factory.mktemp("haproxy")
            front = stack.enter_context(proxy("haproxy", plain.port, folder))
            begin("maxconn", front.url("maxconn"), USERS)
        yield found
        for run in found.values():
            run.wait()


def part(report: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = report["capacity"]
    return found


def within(found: dict[str, Any], truth: float) -> bool:
    return (found["low"] or 0) <= truth <= (found["high"] or 1e9)


def criterion(report: dict[str, Any], metric: str) -> dict[str, Any]:
    return next(one for one in report["criteria"] if one["metric"] == metric)


def test_the_capacity_of_a_queue_is_found_and_every_level_held(runs: dict[str, Run]) -> None:
    report = runs["queue"].ended()
    found = part(report)

    assert within(found, fits(10))
    assert found["high"] - found["low"] < 25
    assert found["limited_by"] == "ttft_ms.p95 < 1000"
    assert found["unit"] == "users"
    asked = [one for one in found["levels"] if one["level"] in (1, 10, 20, 40, 60)]
    assert [one["level"] for one in asked] == [1, 10, 20, 40, 60]
    assert all(one["held"] == one["level"] for one in asked)
    assert len(found["levels"]) > 5, "finer steps followed"
    assert all(20 < one["level"] < 60 for one in found["levels"][5:])
    assert {one["phase"] for one in found["levels"] if one["level"] >= 40} == {"queueing"}
    assert found["levels"][0]["phase"] == "linear"
    assert found["spike"]["level"] == 60
    assert [one["after"] for one in found["recoveries"]] == ["the climb", "the spike"]
    assert found["crashes"] == []


def test_what_is_told_of_each_level_is_what_the_service_did(runs: dict[str, Run]) -> None:
    """By the simulator's own log, which shares nothing with us: p95 from request to first token, level by level."""
    run = runs["queue"]
    levels = part(run.ended())["levels"]
    records = [one for one in read(run.log) if one.ttft_ns is not None]
    for one in levels:
        if one["level"] == 1:
            continue
        end = one["start_ns"] + one["seconds"] * 1e9
        true = [record.ttft_ns / 1e6 for record in records if one["start_ns"] <= record.request_complete_ns < end]
        assert abs(len(true) - one["n"]) <= 0.2 * one["n"] + 3
        assert one["ttft_p95_ms"] == pytest.approx(np.quantile(true, 0.95), rel=0.25, abs=250)


def test_capacity_behind_a_real_proxy_is_the_one_it_is_set_to(runs: dict[str, Run]) -> None:
    if "maxconn" not in runs:
        pytest.skip("haproxy (Debian package haproxy) is not here")
    found = part(runs["maxconn"].ended())
    assert within(found, fits(12))
    assert found["high"] - found["low"] < 30


def test_a_full_queue_that_refuses_is_shedding_and_limits_the_capacity(runs: dict[str, Run]) -> None:
    """30 users have a place; the others are told 503 at once and come back a second later."""
    report = runs["shed"].ended()
    found = part(report)

    assert within(found, 31)
    assert "shedding" in {one["phase"] for one in found["levels"] if one["level"] > 35}
    assert found["failures_fast"] is True
    assert found["errors_manageable"] is False
    assert criterion(report, "level_error_rate")["verdict"] == "fail"
    assert report["verdict"] == "fail"


def test_less_for_more_is_named_collapse(runs: dict[str, Run]) -> None:
    found = part(runs["thrash"].ended())
    top = next(one for one in found["levels"] if one["level"] == 60)
    assert top["phase"] == "collapse"
    assert top["kept"] < 0.8
    assert found["graceful"] is False
    assert "collapse from" in " ".join(found["words"])


def test_a_server_that_dies_is_a_crash_and_ends_the_climb(runs: dict[str, Run]) -> None:
    """31 connections are too many: nobody listens any more."""
    report = runs["dies"].ended()
    found = part(report)

    assert report["verdict"] == "fail"
    assert found["crashes"]
    (crash,) = found["crashes"]
    assert "nobody listened" in crash["words"]
    assert crash["level"] == 40
    assert crash["back_ns"] is None
    assert 30 <= crash["failed"] < crash["n"]
    assert criterion(report, "crashes")["verdict"] == "fail"
    assert report["severity"] == "P0", "whoever asks a service that is gone fails"
    assert report["headline"].startswith("at 40 users: nobody listened"), "a crash comes before what it made worse"
    assert "exit code" in report["next_step"]
    assert criterion(report, "capacity")["verdict"] == "fail"
    assert within(found, 30)
    assert max(one["level"] for one in found["levels"]) == 40, "60 was not tried any more"
    assert found["levels"][-1]["gave_up"]
    assert found["spike"] is None
    assert [one["why"] for one in found["recoveries"]] == ["not_back"]
    assert not report["partial"], "what was planned beyond a crash is not missing"


def test_a_restart_that_only_a_probe_sees_ends_the_climb_and_is_told_once(runs: dict[str, Run]) -> None:
    """With 31 connections it dies and its parent starts it again on the same port: no connection is refused."""
    report = runs["revives"].ended()
    found = part(report)
    crash = found["crashes"][0]
    names = {one["name"] for one in report["findings"]}

    assert not report["outcomes"].get("connect_refused")
    assert "probe page saw a restart" in crash["words"]
    assert crash["level"] == 40
    assert crash["at_ns"] > crash["last_ns"]
    assert max(one["level"] for one in found["levels"]) < 64, "the climb ended there"
    assert found["spike"] is None
    assert {one["phase"] for one in found["levels"] if one["level"] >= 40} == {"crash"}
    assert not {"crash", "collapse", "shedding"} & {one["phase"] for one in found["levels"] if one["level"] <= 20}
    assert within(found, 30)
    assert (report["verdict"], report["severity"]) == ("fail", "P0")
    assert "crashed" in names
    assert not {"restart_seen", "sheds", "collapses", "connects_again", "lost_together"} & names


def test_a_rate_limit_is_found_in_open_loop(runs: dict[str, Run]) -> None:
    """50 requests a second are answered, the others told 429: 5 % of them fail at 52.6."""
    report = runs["limits"].ended()
    found = part(report)

    assert found["unit"] == "requests/s"
    assert within(found, 50 / 0.95)
    assert found["high"] - found["low"] < 30
    assert [round(one["level"], 1) for one in found["levels"][:8]] == [0.5, 5, 12.5, 25, 37.5, 50, 75, 100]
    assert criterion(report, "capacity")["verdict"] != "fail"
    assert next(one["phase"] for one in found["levels"] if one["level"] == 75) == "shedding"


def test_a_level_too_short_to_show_its_queue_is_not_taken_for_carried(runs: dict[str, Run]) -> None:
    """Ten places of 0.2 s each: just under 50 a second for good. At 60 a second p95 only reaches the limit after 5 s,
    and what exceeds 50 by little shows in no 3 s."""
    found = part(runs["overload"].ended())

    # A busy machine slows the simulator too, never the other way round: there is no bound from below.
    assert (found["low"] or 0) <= 54
    assert (found["value"] or 0) <= 58
    beyond = [one for one in found["levels"] if 55 <= one["level"] <= 65]
    assert beyond
    assert all(one["rising"] or one["ttft_p95_ms"] > 1_000 for one in beyond)
    assert not any(one["within"] for one in beyond)


def test_the_command_tells_capacity_on_every_report(tmp_path: Path) -> None:
    with start(log=False, model="sim-t5-i1-n3") as sim:
        url = f"{sim.url}/v1/chat/completions"
        more = "levels = [1, 4]\ncriteria = ['capacity >= 4', 'ttft_ms.p95 < 2000', 'level_error_rate < 50%']"
        text = SPEC.format(url=url, model="sim-t5-i1-n3", more=more).replace("recovery = 3", "recovery = 1")
        (tmp_path / "streamgauge.toml").write_text(text)
        done = undisturbed("run", "stress", "-q", "--seed", "1", "--out", "out", cwd=tmp_path)

    assert done.code == 0, done.out + done.err
    assert "Capacity: at least 4 users" in done.out
    assert "at least 4 users" in done.out.splitlines()[1], "the headline tells what it carries"
    for form in ("md", "html"):
        (page,) = (tmp_path / "out").glob(f"stress_*.{form}")
        written = page.read_text("utf-8")
        assert "at least 4 users" in written
        assert "linear" in written


SAYS = """
[environments.prod]
url = "https://example.com"
kind = "production"
[targets.a]
url = "https://example.com/v1"
dialect = "openai-chat"
model = "m"
"""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--rate", "20", "--requests", "50"), "--duration instead of --requests"),
        (("--requests", "50"), "--duration instead of --requests"),
    ],
)
def test_what_cannot_be_climbed_is_refused_with_the_next_step(
    tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    done = inline("run", "stress", "--url", "http://127.0.0.1:9/v1/chat/completions", *flags, "--dry-run", cwd=tmp_path)
    assert done.code == 2
    assert words in done.err


def test_production_is_spared_unless_the_spec_allows_it(tmp_path: Path) -> None:
    (tmp_path / "streamgauge.toml").write_text(SAYS)
    done = inline("run", "stress", "--dry-run", cwd=tmp_path)
    assert done.code == 2
    assert "counts as production" in done.err
    assert "allow_production" in done.err

    (tmp_path / "streamgauge.toml").write_text(SAYS + "[tests.stress]\nallow_production = true\n")
    assert "counts as production" not in inline("run", "stress", "--dry-run", cwd=tmp_path).err
