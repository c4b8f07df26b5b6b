"""The recipe in docs/ci: its shell steps are run as the runner would run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from scipy.stats import binom

from cli import again_if_invalid, environment, inline
from streamgauge.simulator import Simulator, start
from streamgauge.spec.presets import TABLE

DOCS = Path(__file__).parent.parent / "docs" / "ci.md"
RECIPE = DOCS.with_suffix("") / "streamgauge-pr.yml"
NIGHTLY = DOCS.with_suffix("") / "streamgauge-nightly.yml"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start() as running:
        yield running


def step(name: str, recipe: Path = RECIPE) -> str:
    """The shell text of one step of the recipe."""
    text = recipe.read_text("utf-8")
    found = re.search(rf"- name: {re.escape(name)}\n(?:        if: .*\n)?        run: \|\n((?:          .*\n)+)", text)
    assert found is not None, name
    return "\n".join(line[10:] for line in found[1].splitlines())


def perform(name: str, cwd: Path, recipe: Path = RECIPE, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a step in `cwd` as GitHub's runner does: bash with -e, this environment's streamgauge first on the path.

    Again where this machine was too busy to measure.
    """
    run = partial(
        subprocess.run, ["bash", "-e", "-c", step(name, recipe)], cwd=cwd,
        env=environment(PATH=PATH, CI="true", **env), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return again_if_invalid(run, lambda done: done.returncode, cwd)


def target(simulator: Simulator, model: str) -> dict[str, str]:
    return {
        "STREAMGAUGE_URL": f"{simulator.url}/v1/chat/completions",
        "STREAMGAUGE_DIALECT": "openai-chat",
        "STREAMGAUGE_MODEL": model,
        "STREAMGAUGE_KEY": "sk-planted-0123456789",
    }


def test_what_is_missing_fails_and_is_named(tmp_path: Path) -> None:
    name = "Target and secret are there"
    summary = tmp_path / "summary.md"
    given = {"STREAMGAUGE_URL": "https://x.example", "STREAMGAUGE_DIALECT": "ai-sdk", "STREAMGAUGE_KEY": ""}
    done = perform(name, tmp_path, GITHUB_STEP_SUMMARY=str(summary), **given)
    assert done.returncode == 1
    assert "variable STREAMGAUGE_PACKAGE" in done.stdout
    assert "secret STREAMGAUGE_KEY" in done.stdout
    assert "STREAMGAUGE_URL" not in done.stdout
    assert "Not measured" in summary.read_text("utf-8")
    assert "secret STREAMGAUGE_KEY" in summary.read_text("utf-8")
    there = perform(
        name, tmp_path, STREAMGAUGE_PACKAGE="p", STREAMGAUGE_URL="u", STREAMGAUGE_DIALECT="d", STREAMGAUGE_KEY="k"
    )
    assert there.returncode == 0


def test_what_is_missing_is_named_before_anything_is_installed() -> None:
    text = RECIPE.read_text("utf-8")
    assert (
        text.index("- name: Target and secret are there")
        < text.index("- name: Install")
        < text.index("- name: Measure")
    )


def test_a_good_service_passes_and_its_report_reaches_the_summary(simulator: Simulator, tmp_path: Path) -> None:
    done = perform("Measure", tmp_path, **target(simulator, "sim-t150-i2-n10"))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = tmp_path / "summary.md"
    assert perform("Job summary", tmp_path, GITHUB_STEP_SUMMARY=str(summary)).returncode == 0
    assert "PASS" in summary.read_text("utf-8")
    kept = "".join(path.read_text("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file())
    assert "sk-planted" not in kept
    assert len(list((tmp_path / "streamgauge-report").iterdir())) == 4


def test_p95_over_a_second_blocks(simulator: Simulator, tmp_path: Path) -> None:
    done = perform("Measure", tmp_path, **target(simulator, "sim-t1100-i1-n2"))
    assert done.returncode == 1
    assert "waits over 1 s" in done.stdout


def test_nothing_to_measure_is_never_green(tmp_path: Path) -> None:
    dead = {"STREAMGAUGE_URL": "http://127.0.0.1:9/v1/chat/completions", "STREAMGAUGE_KEY": "sk-planted-0123456789"}
    done = perform("Measure", tmp_path, STREAMGAUGE_DIALECT="openai-chat", STREAMGAUGE_MODEL="", **dead)
    assert done.returncode == 4
    summary = tmp_path / "summary.md"
    assert perform("Job summary", tmp_path, GITHUB_STEP_SUMMARY=str(summary)).returncode == 0
    assert "No report" in summary.read_text("utf-8")


def test_the_gates_odds_in_the_docs_are_those_of_the_verdict() -> None:
    """The criterion of `pr` is a one-sided exact test of "more than 5 % wait over 1 s" at 150 requests."""
    n = TABLE["ttft", "pr"].requests
    blocks = next(k for k in range(n) if binom.sf(k - 1, n, 0.05) <= 0.05)
    passes = max(k for k in range(n) if binom.cdf(k, n, 0.05) <= 0.05)
    rows = re.findall(
        r"^  \| ([\d.]+) %[^|]*\| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \|$", DOCS.read_text("utf-8"), re.M
    )
    assert len(rows) == 7
    for share, block, good, open_ in rows:
        p = float(share) / 100
        assert float(block) == pytest.approx(100 * binom.sf(blocks - 1, n, p), abs=0.06)
        assert float(good) == pytest.approx(100 * binom.cdf(passes, n, p), abs=0.06)
        assert float(block) + float(good) + float(open_) == pytest.approx(100, abs=0.15)


def test_the_recipe_gives_a_gate_on_pull_requests_with_summary_and_artefact() -> None:
    text = RECIPE.read_text("utf-8")
    assert re.search(r"^on: pull_request$", text, re.M), "not pull_request_target: that would hand secrets to forks"
    assert "--preset pr" in step("Measure")
    assert re.search(r"^    timeout-minutes: 15$", text, re.M)
    upload = text.partition("actions/upload-artifact@")[2]
    assert "if: always()" in upload
    assert "path: streamgauge-report" in upload
    assert "simulator" not in text
    assert "continue-on-error" not in text


@pytest.mark.parametrize("fork", [True, False])
def test_the_spec_way_names_a_missing_secret_too(fork: bool, tmp_path: Path) -> None:
    """The recipe's other way: `streamgauge run ttft --env staging`, its secrets handed over by the job."""
    (tmp_path / "streamgauge.toml").write_text(
        '[environments.staging]\nurl = "http://127.0.0.1:9"\n[targets.app]\npath = "/api/chat"\ndialect = "ai-sdk"\n'
        'headers = { cookie = "session=${STAGING_SESSION}" }\n'
    )
    way = re.search(r"^#   (streamgauge run ttft --env staging .*)$", RECIPE.read_text("utf-8"), re.M)
    assert way is not None
    done = inline(*way[1].split()[1:], cwd=tmp_path, CI="true", STAGING_SESSION="" if fork else "a-session")
    assert (done.code, "${STAGING_SESSION} is not set" in done.err) == ((2, True) if fork else (4, False))


# Every night


SPEC = """\
[environments.staging]
url = "{url}"
kind = "staging"
[targets.app]
path = "/v1/chat/completions"
dialect = "openai-chat"
model = "{model}"
headers = {{ authorization = "Bearer ${{STREAMGAUGE_KEY}}" }}
"""
FEW = {"STREAMGAUGE_REQUESTS": "12", "STREAMGAUGE_CONCURRENCY": "4", "STREAMGAUGE_MAX_REQUESTS": "30"}
"""So few that of all tests only ttft may start."""


def tonight(name: str, folder: Path, url: str, model: str, **env: str) -> subprocess.CompletedProcess[str]:
    (folder / "streamgauge.toml").write_text(SPEC.format(url=url, model=model), "utf-8")
    given = {"STREAMGAUGE_ENV": "staging", "STREAMGAUGE_KEY": "sk-planted-0123456789", "LIMIT": "120s"}
    return perform(name, folder, NIGHTLY, **{**given, "STREAMGAUGE_PRESET": "pr", **FEW, **env})


def test_a_night_that_leaves_tests_out_is_a_warning_and_its_index_reaches_the_summary(
    simulator: Simulator, tmp_path: Path
) -> None:
    assert tonight("Target and probes answer", tmp_path, simulator.url, "sim-t60-i1-n5").returncode == 0
    done = tonight("Measure", tmp_path, simulator.url, "sim-t60-i1-n5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "::warning::undecided, or a test was not run" in done.stdout
    summary = tmp_path / "summary.md"
    assert perform("Job summary", tmp_path, NIGHTLY, GITHUB_STEP_SUMMARY=str(summary)).returncode == 0
    text = summary.read_text("utf-8")
    assert all(test in text for test in ("ttft", "concurrent", "endurance", "memory", "stress"))
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "streamgauge.toml"]
    assert any(path.parts[-4:-1][:2] == (".streamgauge", "runs") for path in kept), "what the artefact keeps"
    assert "sk-planted" not in "".join(path.read_text("utf-8", "replace") for path in kept)


def test_a_bad_night_blocks_and_one_with_nothing_to_measure_too(simulator: Simulator, tmp_path: Path) -> None:
    assert tonight("Measure", tmp_path, simulator.url, "sim-t1100-i1-n2").returncode == 1
    assert tonight("Measure", tmp_path, "http://127.0.0.1:9", "m").returncode == 4
    missing = tonight("Target and probes answer", tmp_path, simulator.url, "m", STREAMGAUGE_KEY="")
    assert (missing.returncode, "STREAMGAUGE_KEY" in missing.stderr) == (2, True)


def test_a_night_that_is_not_over_at_its_limit_fails_and_what_was_measured_is_kept(
    simulator: Simulator, tmp_path: Path
) -> None:
    """At its limit `timeout` sends SIGTERM; told to end it does the same, so that no time is guessed here."""
    model = "sim-t300-i2-n400"
    (tmp_path / "streamgauge.toml").write_text(SPEC.format(url=simulator.url, model=model), "utf-8")
    given = {"STREAMGAUGE_ENV": "staging", "STREAMGAUGE_KEY": "sk-planted-0123456789", "STREAMGAUGE_PRESET": "pr",
             "LIMIT": "10m", "STREAMGAUGE_REQUESTS": "150", "STREAMGAUGE_MAX_REQUESTS": "400"}  # fmt: skip
    night = subprocess.Popen(
        ["bash", "-e", "-c", step("Measure", NIGHTLY)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(PATH=PATH, CI="true", **given), text=True,
    )  # fmt: skip
    until = time.monotonic() + 240
    while sum(one.stat().st_size for one in tmp_path.glob(".streamgauge/runs/*/samples-*")) < 5_000:
        assert time.monotonic() < until, "no samples on disk"
        time.sleep(0.05)
    (limit,) = (one for one in psutil.Process(night.pid).children() if one.name() == "timeout")
    limit.terminate()
    out, err = night.communicate(timeout=300)

    assert night.returncode == 143, err
    assert "::error::not over after 10m; what was measured until then is kept" in out
    summary = tmp_path / "summary.md"
    assert perform("Job summary", tmp_path, NIGHTLY, GITHUB_STEP_SUMMARY=str(summary)).returncode == 0
    assert "the command was stopped before it began" in summary.read_text("utf-8"), "the tests that were to follow"
    (told,) = (tmp_path / "streamgauge-report").glob("ttft_*.json")
    report = json.loads(told.read_text("utf-8"))
    assert (report["partial"], report["verdict"] == "pass") == (True, False)
    assert report["metrics"]["ttft_ms"]["n"] > 0


def test_the_nightly_recipe_keeps_reports_and_runs_and_its_limit_ends_before_the_job() -> None:
    text = NIGHTLY.read_text("utf-8")
    upload = text.partition("actions/upload-artifact@")[2]
    assert all(part in upload for part in ("if: always()", "streamgauge-report", ".streamgauge/runs", "retention-days"))
    limits, jobs = (
        re.search(r"LIMIT: .*'(\d+)m' .*'(\d+)m'", text),
        re.search(r"timeout-minutes: .* (\d+) .* (\d+) ", text),
    )
    assert limits is not None
    assert jobs is not None
    assert all(int(limit) + 15 <= int(job) for limit, job in zip(limits.groups(), jobs.groups(), strict=True))
    assert "continue-on-error" not in text
