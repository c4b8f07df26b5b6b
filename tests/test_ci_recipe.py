"""The recipe in docs/ci: its shell steps are run as the runner would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import environment
from streamgauge.simulator import Simulator, start

RECIPE = Path(__file__).parent.parent / "docs" / "ci" / "streamgauge-pr.yml"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start() as running:
        yield running


def step(name: str) -> str:
    """The shell text of one step of the recipe."""
    text = RECIPE.read_text("utf-8")
    found = re.search(rf"- name: {re.escape(name)}\n(?:        if: .*\n)?        run: \|\n((?:          .*\n)+)", text)
    assert found is not None, name
    return "\n".join(line[10:] for line in found[1].splitlines())


def perform(name: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a step in `cwd` as GitHub's runner does: bash with -e, this environment's streamgauge first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", step(name)],
        cwd=cwd, env=environment(PATH=path, CI="true", **env), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def target(simulator: Simulator, model: str) -> dict[str, str]:
    return {
        "STREAMGAUGE_URL": f"{simulator.url}/v1/chat/completions",
        "STREAMGAUGE_DIALECT": "openai-chat",
        "STREAMGAUGE_MODEL": model,
        "STREAMGAUGE_KEY": "sk-planted-0123456789",
    }


def test_what_is_missing_fails_and_is_named(tmp_path: Path) -> None:
    name = "Target and secret are there"
    done = perform(
        name, tmp_path, STREAMGAUGE_URL="https://x.example", STREAMGAUGE_DIALECT="ai-sdk", STREAMGAUGE_KEY=""
    )
    assert done.returncode == 1
    assert "variable STREAMGAUGE_PACKAGE" in done.stdout
    assert "secret STREAMGAUGE_KEY" in done.stdout
    assert "STREAMGAUGE_URL" not in done.stdout
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
