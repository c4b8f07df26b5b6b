"""The comparison reads what each tool wrote: outputs as the tools wrote them (versions in requirements/peers.txt)."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from bench.load import compiled
from bench.peers import ai_perf, compare, guide_llm, inference_perf, locust_fast, plain_programs
from bench.peers.run import Ran, Used, truth_of
from bench.peers.tool import OUTPUT, Case, Told, Tool, quantiles
from bench.truth_log import SERVER, Answer

SAMPLES = Path(__file__).parent / "peers"
MS = 1_000_000


def told(tool: Tool, folder: Path, sample: str = "", output: str = "", requests: int = 20) -> Told:
    """What the adapter makes of a recorded folder and of what the tool printed."""
    if sample:
        shutil.copytree(SAMPLES / sample, folder, dirs_exist_ok=True)
    (folder / OUTPUT).write_text(output)
    return tool.read(Case(1, 10, requests, "sim", folder))


def test_aiperf_tells_milliseconds_and_its_own_slow_loops(tmp_path: Path) -> None:
    found = told(ai_perf.TOOL, tmp_path, "aiperf")
    assert found.ttft_ms == pytest.approx((308.468, 322.021, 323.071), abs=1e-3)
    assert found.said == ()
    logs = tmp_path / "report" / "logs"
    logs.mkdir()
    line = "2026-11-25 16:51:02.528 - worker_1 - WARNING - Event loop for worker_1 is taking too long to run."
    (logs / "aiperf.log").write_text(f"{line}\n{line}\n2026-11-25 16:51:02.528 - x - WARNING - no GPU\n")
    assert ai_perf.TOOL.read(Case(1, 10, 20, "sim", tmp_path)).said == ("event loop too long (2 times)",)


def test_guidellm_tells_milliseconds_and_its_warnings(tmp_path: Path) -> None:
    found = told(guide_llm.TOOL, tmp_path, "guidellm")
    assert found.ttft_ms == pytest.approx((303.787, 316.161, 324.968), abs=1e-3)
    report = json.loads((tmp_path / "report.json").read_text())
    report["benchmarks"][0]["warnings"] = [{"code": "root_late", "message": "p95 root dispatch delay\nis 0.48 s"}]
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert guide_llm.TOOL.read(Case(1, 10, 20, "sim", tmp_path)).said == ("p95 root dispatch delay is 0.48 s",)


def test_inference_perf_tells_seconds_and_may_send_fewer(tmp_path: Path) -> None:
    log = "2026-11-25 16:53:53,879 - inference_perf.client - ERROR - prompt not built\n"
    found = told(inference_perf.TOOL, tmp_path, "inference-perf", log, requests=21)
    assert found.ttft_ms == pytest.approx((301.305, 306.224, 314.164), abs=1e-3)
    assert found.said == ("prompt not built", "20 of 21 requests in its summary")


def test_locust_tells_rounded_milliseconds(tmp_path: Path) -> None:
    log = "[2026-11-25 17:57:10,392] vm/WARNING/locust.runners: Your selected spawn rate is very high (>100)\n"
    found = told(locust_fast.TOOL, tmp_path, "locust", log)
    assert found.ttft_ms == (300.0, 310.0, 310.0)
    assert found.said == ("Your selected spawn rate is very high (>100)",)


@pytest.mark.parametrize("tool", [plain_programs.AIOHTTP, plain_programs.FETCH], ids=lambda tool: tool.name)
def test_the_small_programs_tell_every_answer_in_their_last_line(tool: Tool, tmp_path: Path) -> None:
    found = told(tool, tmp_path, output='a warning\n{"ttft_ms": [300.5, 301.5, 302.5], "failed": 2}\n')
    assert found == Told((301.5, 302.5, 302.5), ("2 requests failed",))


def test_no_values_have_no_quantiles() -> None:
    assert quantiles([]) == (None, None, None)


def answer(request_ms: float, *writes_ms: float, left: bool = False) -> Answer:
    """An answer whose writes take no time."""
    writes = tuple((round(at * MS), round(at * MS)) for at in writes_ms)
    return Answer(round(request_ms * MS), round(request_ms * MS), 0, writes, left)


def test_truth_counts_what_was_cut_but_takes_quantiles_of_the_whole() -> None:
    truth = truth_of([answer(0, 300, 320, 400), answer(100, 410, 420, 500), answer(0, 900, left=True), answer(0)])
    assert truth is not None
    assert truth.ttft_ms == (310.0, 310.0, 310.0)
    assert truth.left == 2
    assert truth.tokens == 4
    assert truth.open_most == 3
    assert truth.open_mean == pytest.approx((400 + 400 + 900) / 900)
    assert truth_of([answer(0, left=True)]) is None


def test_errors_are_told_over_true() -> None:
    truth = truth_of([answer(0, 200, 300)])
    ran = Ran(Told((220.0, 400.0, None)), truth, Used(1.0, 1.0, 1.0, 1.0, 1))
    assert ran.errors == (pytest.approx(0.1), pytest.approx(1.0), None)


def _asked(**changes: object) -> argparse.Namespace:
    plain = {
        "streams": [1, 2], "rounds": 1, "model": "sim-t5-i5-n2", "timeout_s": 20.0, "keep": None, "form": "same",
    }  # fmt: skip
    return argparse.Namespace(**plain | changes)


def _tool(code: str, missing: str | None = None) -> Tool:
    def command(case: Case) -> Sequence[str]:
        return (sys.executable, "-c", code)

    def read(case: Case) -> Told:
        return Told((float((case.folder / "told").read_text()),) * 3)

    return Tool("made", lambda: missing, lambda: "1", command, read)


def test_a_tool_that_fails_says_how_and_is_not_taken_further(tmp_path: Path) -> None:
    server = compiled(SERVER, tmp_path)
    if server is None:
        pytest.skip("no C compiler (cc) here: the server in C cannot be made")
    tool = _tool("print('no model here'); raise SystemExit(7)")
    runs: dict[int, Ran] = {}
    rows = compare.levels(tool, server, _asked(), runs)
    assert [row[1] for row in rows] == ["1", "2"]
    assert "FAILED: status 7, no report (FileNotFoundError): no model here" in rows[0][-1]
    assert rows[1][-1] == "not run: failed at 1"
    assert list(runs) == [1]


def test_a_tool_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    server = compiled(SERVER, tmp_path)
    if server is None:
        pytest.skip("no C compiler (cc) here: the server in C cannot be made")
    rows = compare.levels(_tool("import time; time.sleep(300)"), server, _asked(streams=[1], timeout_s=0.5), {})
    assert [row[-1] for row in rows] == ["FAILED: not done after 0.5 s"]


def test_a_tool_that_is_not_here_says_so() -> None:
    tool = _tool("", missing="not installed (scripts/peers-setup made)")
    rows = compare.levels(tool, "no server", _asked(), {})
    assert [(row[1], row[-1]) for row in rows] == [("all", "not installed (scripts/peers-setup made)")]
    assert len(rows[0]) == len(compare.COLUMNS)


def test_ours_is_held_against_the_heavy_ones_at_100() -> None:
    truth = truth_of([answer(0, *(300 + n for n in range(101)))])
    ran = {share: Ran(None, truth, Used(1.0, share, share, 1.0, 1)) for share in (1.0, 9.0, 11.0)}
    found = {"streamgauge": {100: ran[1.0]}, "aiperf": {100: ran[9.0]}, "guidellm": {100: ran[11.0]}}
    assert [bound.holds for bound in compare.bounds(found)] == [False, True]
    assert compare.bounds({"streamgauge": {100: ran[1.0]}, "guidellm": {10: ran[1.0]}}) == []
