"""The main job as a user meets it: command, exit code, files, against a simulator whose truth is known."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import socket
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from asked import asked
from cli import streamgauge, undisturbed, valid_report
from streamgauge import __version__ as streamgauge_version
from streamgauge.simulator import Simulator, start

QUICK = ("--set", "tests.ttft.prompts=['short']")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start() as running:
        yield running


def url(simulator: Simulator) -> str:
    return f"{simulator.url}/v1/chat/completions"


def run(simulator: Simulator, cwd: Path, *more: str, model: str = "sim-t200-i2-n20") -> tuple[int, dict[str, Any], str]:
    done = undisturbed("run", "--url", url(simulator), "--model", model, "-q", "--json", *more, cwd=cwd)
    assert done.out, done.err
    return done.code, valid_report(done.out), done.err


def test_a_healthy_target_passes_and_its_report_says_what_the_server_did(simulator: Simulator, tmp_path: Path) -> None:
    code, report, _ = run(simulator, tmp_path, "--requests", "60", "--concurrency", "2", "--seed", "5")
    assert (code, report["verdict"], report["partial"]) == (0, "pass", False)
    assert report["outcomes"] == {"ok": 60}
    ttft = report["metrics"]["ttft_service_ms"]
    assert ttft["n"] == 60
    truth = {record.trace_id: (record.ttft_ns or 0) / 1e6 for record in simulator.log(at_least=60)}
    served = median(truth[row["id"]] for row in _csv(tmp_path) if row["phase"] == "hold")
    assert 200 <= served <= ttft["p50"] + 0.2
    assert ttft["p50"] <= served + 100, "half of them at least"
    assert {c["name"]: c["verdict"] for c in report["criteria"]}["ttft_ms.p95 < 1000"] == "pass"


def test_a_report_says_what_was_run_where_and_by_which_command_again(simulator: Simulator, tmp_path: Path) -> None:
    _, report, _ = run(simulator, tmp_path, "--requests", "6", "--seed", "5")
    told = report["run"]
    assert (told["seed"], told["version"], told["host"]) == (5, streamgauge_version, socket.gethostname())
    assert told["targets"][0]["url"] == url(simulator)
    assert told["targets"][0]["model"] == "sim-t200-i2-n20"
    assert told["settings"]["requests"] == 6
    rows = _csv(tmp_path)
    program, *words = shlex.split(told["rerun"])
    again = streamgauge(*words, "--out", "again", cwd=tmp_path)
    assert (program, again.code in (3, 5)) == ("streamgauge", True), again.err  # 5 where this machine is too busy
    (path,) = tmp_path.glob("again/*.json")
    second = valid_report(path.read_text("utf-8"))
    assert second["run"]["spec_digest"] == told["spec_digest"] is not None
    assert second["run"]["settings"] == told["settings"]
    both = (sorted(each, key=lambda row: int(row["start_ns"])) for each in (rows, _csv(tmp_path, "again")))
    first, then = ([row["prompt"] for row in each] for each in both)
    assert first == then, "the same prompts in the same order of starts; their ends may come in another"


def test_every_sample_is_one_request_of_the_servers_log(simulator: Simulator, tmp_path: Path) -> None:
    before = asked(simulator)
    _, report, _ = run(simulator, tmp_path, "--requests", "12")
    rows = _csv(tmp_path)
    truth = {record.trace_id: record for record in simulator.log(at_least=before + 14)[before:]}
    assert {row["id"] for row in rows} == set(truth)
    assert len(rows) == 14, "12 judged and 2 for warm-up"
    for row in rows:
        sends = [send for send in truth[row["id"]].sends if "text" in send.kinds]
        assert int(row["first_token_ns"]) >= sends[0].before_ns
        assert float(row["ttft_service_ms"]) > 0
    assert report["run"]["tokens"]["output"] == sum(r.usage["output"] for r in truth.values() if r.usage)


def test_the_four_forms_are_written_and_report_makes_them_again(simulator: Simulator, tmp_path: Path) -> None:
    code, *_ = run(simulator, tmp_path, "--requests", "12", "--out", "out")
    first = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [name.rpartition(".")[2] for name in first] == ["csv", "html", "json", "md"]
    again = streamgauge("report", "last", cwd=tmp_path)
    assert again.code == code, "3, since 12 requests leave p95 open; 5 where this machine is too busy"
    second = sorted((tmp_path / "out").glob("*-2.*"))
    assert len(second) == 4
    one, two = (valid_report((tmp_path / "out" / name).read_text()) for name in (first[2], second[2].name))
    assert one == two


def test_slow_answers_fail_with_severity_and_exit_1(simulator: Simulator, tmp_path: Path) -> None:
    flags = ("--requests", "60", "--concurrency", "20", *QUICK)
    code, report, _ = run(simulator, tmp_path, *flags, model="sim-t1700-i1-n3")
    assert (code, report["verdict"], report["severity"]) == (1, "fail", "P1")
    assert "waits over 1 s" in report["headline"]


def test_a_target_that_answers_no_request_at_all_is_a_set_up_error(simulator: Simulator, tmp_path: Path) -> None:
    code, report, _ = run(simulator, tmp_path, "--requests", "40", "-H", "X-Sim-Fault: 401")
    assert (code, report["verdict"], report["severity"], report["partial"]) == (4, "invalid", None, True)
    assert "set-up" in report["headline"]
    assert "check" in report["next_step"]


def test_a_wrong_dialect_is_a_set_up_error_and_the_one_that_is_spoken_is_named(
    simulator: Simulator, tmp_path: Path
) -> None:
    there = f"{simulator.url}/v1/messages"
    flags = ("--dialect", "openai-chat", "--model", "sim-t5-i1-n3", "--requests", "20", "-q")
    done = streamgauge("run", "--url", there, *flags, cwd=tmp_path)
    assert done.code == 4, done.out
    lines = done.out.splitlines()
    assert lines[0].startswith("! INVALID")
    assert "it speaks anthropic, not openai-chat" in " ".join(" ".join(lines[1:4]).split())
    assert len(lines) < 14
    assert "waits over" not in done.out


def test_no_token_ever_seen_is_null_and_fails(simulator: Simulator, tmp_path: Path) -> None:
    code, report, _ = run(simulator, tmp_path, "--requests", "60", "-H", "X-Sim-Fault: empty")
    assert code == 1
    p95 = next(c for c in report["criteria"] if c["name"] == "ttft_ms.p95 < 1000")
    assert (p95["value"], p95["verdict"], p95["why"]) == (None, "fail", "censored")


def test_what_an_app_adds_to_its_provider_is_what_its_server_took_longer(simulator: Simulator, tmp_path: Path) -> None:
    """The app's first token comes after 350 ms, its control's after 200 ms; both take the same prompts, in turn."""
    (tmp_path / "streamgauge.toml").write_text(
        f'[environments.local]\nurl = "{simulator.url}"\n'
        '[targets.app]\npath = "/api/chat"\ndialect = "ai-sdk"\nmodel = "m"\ncontrol = "direct"\n'
        'headers = { X-Sim-Script = \'[["wait",350],["text","Hi"],["usage",{"input":1,"output":1}]]\' }\n'
        "usd_per_mtok = { in = 0, out = 100 }\n"
        '[targets.direct]\npath = "/v1/messages"\ndialect = "anthropic"\nmodel = "sim-t200-i1-n5"\n'
        "usd_per_mtok = { in = 0, out = 100 }\n"
    )
    done = streamgauge("run", "ttft", "--requests", "60", "-q", "--json", cwd=tmp_path)
    assert done.out, done.err
    report = valid_report(done.out)
    assert report["outcomes"] == {"ok": 60}, "the control's are not judged"
    (added,) = [one for one in report["comparisons"] if one["kind"] == "control" and one["stat"] == "p50"]
    assert (added["a"], added["b"]) == ("app", "direct")
    assert added["low"] <= added["difference"] <= added["high"]
    assert added["difference"] == pytest.approx(150, abs=75)
    assert "app adds" in report["headline"]
    rows = _csv(tmp_path)
    judged = [row for row in rows if row["phase"] == "hold"]
    prompts = {name: [row["prompt"] for row in judged if row["target"] == name] for name in ("app", "direct")}
    assert sorted(prompts["app"]) == sorted(prompts["direct"])
    first = sorted(judged, key=lambda row: int(row["start_ns"]))[:60]
    assert 20 <= sum(row["target"] == "app" for row in first) <= 40, "side by side, not one after the other"
    assert report["run"]["cost_usd"] == pytest.approx(62 * (1 + 5) * 100 / 1e6), "the control's tokens cost too"


def test_an_undecided_run_is_doubled_once(tmp_path: Path) -> None:
    """By the simulator's seed 12 of the first 400 answers are slow: "under 5 %" is open, and 800 could tell."""
    with start(faults=["slow-headers=0.0325:700ms"], seed=1) as slow:
        flags = ("--preset", "standard", "--set", 'tests.ttft.criteria=["ttft_ms.p95 < 500"]', "--concurrency", "8")
        done = streamgauge("run", "--url", url(slow), "--model", "sim-t40-i1-n3", "-q", "--json", *flags, cwd=tmp_path)
        truth = len(slow.log(at_least=802))
    report = valid_report(done.out)
    (p95,) = report["criteria"]
    assert (p95["n"], p95["confidence"]) == (800, 0.975)
    assert len(_csv(tmp_path)) == truth >= 802
    assert report["verdict"] != "fail"


def test_concurrent_holds_its_level_and_reports_its_phases(simulator: Simulator, tmp_path: Path) -> None:
    flags = ("concurrent", "--concurrency", "20", "--requests", "80", "--seed", "3")
    code, report, _ = run(simulator, tmp_path, *flags, model="sim-t40-i5-n40")
    assert code == 0, report["headline"]
    names = [phase["name"] for phase in report["run"]["phases"]]
    assert names == ["warmup", "reference", "ramp", "hold", "drain"]
    assert report["scalars"]["concurrency_held"] >= 20
    assert report["scalars"]["drops"] == 0


@pytest.mark.slow
def test_concurrent_goes_above_its_level_once_it_was_judged(simulator: Simulator, tmp_path: Path) -> None:
    _, report, _ = run(simulator, tmp_path, "concurrent", "--preset", "smoke", model="sim-t300-i50-n10")
    phases = {phase["name"]: phase for phase in report["run"]["phases"]}
    assert list(phases) == ["warmup", "reference", "ramp", "hold", "stress", "drain"]
    assert (phases["hold"]["level"], phases["stress"]["level"]) == (100, 200)
    assert sum(report["outcomes"].values()) == 300, "the judged ones are those of the hold"
    above = [sum(group["outcomes"].values()) for group in report["groups"] if group["phase"] == "stress"]
    assert max(above) >= 200, "and those of the stress phase are shown apart"
    started = [sample for sample in simulator.log() if sample.request_complete_ns >= phases["stress"]["start_ns"]]
    edges = sorted([(r.request_complete_ns, 1) for r in started] + [(r.end_ns, -1) for r in started])
    assert max(accumulate(step for _, step in edges)) > 100, "by the server's own log"


def test_open_loop_keeps_its_rate_and_sheds_above_the_cap(simulator: Simulator, tmp_path: Path) -> None:
    flags = ("--rate", "40", "--duration", "2s", "--concurrency", "4", *QUICK)
    _, report, _ = run(simulator, tmp_path, *flags, model="sim-t300-i1-n3")
    judged = sum(report["outcomes"].values())
    assert judged == pytest.approx(80, abs=2)
    assert report["outcomes"]["shed"] > 40, "4 streams of 0.3 s serve about 13 a second"
    assert report["metrics"]["ttft_ms"]["censored"] == report["outcomes"]["shed"]
    assert any("shed" in warning for warning in report["warnings"])


def test_a_plan_above_a_hard_stop_does_not_start_and_names_it(simulator: Simulator, tmp_path: Path) -> None:
    before = asked(simulator)
    flags = ("--model", "m", "--requests", "100", "--max-requests", "50", "-q")
    done = streamgauge("run", "--url", url(simulator), *flags, cwd=tmp_path)
    assert done.code == 2
    assert "the plan wants 102 requests; the hard stop is 50 (--max-requests)" in done.err
    assert asked(simulator) == before + 1, "only the one that asks"


def test_a_hard_stop_met_while_running_ends_it_as_partial(simulator: Simulator, tmp_path: Path) -> None:
    flags = ("--duration", "4s", "--max-requests", "90", *QUICK)
    code, report, _ = run(simulator, tmp_path, *flags, model="sim-t100-i1-n3")
    assert (code, report["partial"]) == (3, True), "many times faster than the plan could guess"
    assert report["run"]["stopped_by"] == "max_requests = 90 reached"
    assert report["verdict"] == "inconclusive"


def test_several_tests_make_one_json_and_one_exit_code(simulator: Simulator, tmp_path: Path) -> None:
    done = streamgauge(
        "run", "ttft", "concurrent", "--url", url(simulator), "--model", "sim-t200-i2-n20", "--json",
        "--requests", "30", "--concurrency", "10", cwd=tmp_path,
    )  # fmt: skip
    told = json.loads(done.out)
    suite = [valid_report(json.dumps(report)) for report in told["suite"]]
    assert [report["test"] for report in suite] == ["ttft", "concurrent"]
    verdicts = {report["verdict"] for report in suite}
    order = (("fail", 1), ("invalid", 5), ("inconclusive", 3), ("pass", 0))
    assert done.code == next(code for verdict, code in order if verdict in verdicts)
    # Which one runs, what is waited for, and the time left.
    assert re.search(r"^ttft \(1 of 2\) .*about \d+ s in all", done.err, re.M)
    assert re.search(r"^concurrent \(2 of 2\) ", done.err, re.M)
    asked_alone = r"^before concurrent: until every target answers as before, asked alone \(target within \d+ ms\)"
    assert re.search(asked_alone, done.err, re.M)
    # The index says the same as the reports.
    (index,) = tmp_path.glob("tests/performance/reports/suite_*.json")
    assert json.loads(index.read_text("utf-8")) == told["index"]
    first, second = told["index"]["tests"]
    assert [one["run"] for one in (first, second)] == [report["run"]["id"] for report in suite]
    assert [one["verdict"] for one in (first, second)] == [report["verdict"] for report in suite]
    assert {report["suite"] for report in suite} == {told["index"]["id"]}
    assert first["settled"] is None
    assert second["settled"]["targets"][0]["asked"] >= 1
    assert told["index"]["rerun"].startswith("streamgauge run ttft concurrent --url ")
    assert told["index"]["exit"] == done.code


def test_without_a_target_in_ci_nothing_runs(tmp_path: Path) -> None:
    done = streamgauge("run", cwd=tmp_path, CI="true")
    assert done.code == 2
    assert "no target" in done.err
    assert "simulator is not used" in done.err


def test_a_dry_run_sends_nothing(simulator: Simulator, tmp_path: Path) -> None:
    before = asked(simulator)
    done = streamgauge("run", "--url", url(simulator), "--model", "m", "--dry-run", cwd=tmp_path)
    assert done.code == 0
    assert "152 requests" in done.out
    assert "cost unknown" in done.out
    assert asked(simulator) == before + 1, "only the one that asks"
    assert not (tmp_path / ".streamgauge").exists()


def test_a_port_where_nothing_listens_is_exit_4_before_any_report(tmp_path: Path) -> None:
    done = streamgauge("run", "--url", "http://127.0.0.1:9/v1/chat/completions", "--json", "-q", cwd=tmp_path)
    assert done.code == 4
    told = json.loads(done.out)
    assert (told["stage"], told["target"]) == ("connect", "target")
    assert not (tmp_path / ".streamgauge").exists()


def _csv(folder: Path, out: str = "tests/performance/reports") -> list[dict[str, str]]:
    (path,) = folder.glob(f"{out}/*.csv")
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
