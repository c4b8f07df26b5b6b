"""Our own machine gives out: a full disk, descriptors used up. The exit code is right and what was measured stays."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import environment
from real import require
from streamgauge.simulator import Simulator, start

COMMAND = shlex.join([sys.executable, "-m", "streamgauge"])


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with start() as running:
        yield running


def own_disks() -> bool:
    """Whether this process may mount a file system of its own, unseen by others."""
    if shutil.which("unshare") is None:
        return False
    trial = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /tmp"]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


def on_a_small_disk(folder: Path, size: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with `folder` on a disk of this size, in a mount namespace that ends with it."""
    require(own_disks(), "a disk of one's own (unshare and mount, which want root)")
    folder.mkdir()
    mount = (
        f"mount -t tmpfs -o size={size} tmpfs {shlex.quote(str(folder))} && cd {shlex.quote(str(folder))} || exit 99"
    )
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount}\n{script}"],
        cwd=folder.parent, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def run(sim: Simulator, *more: str, model: str = "sim-t30-i1-n10") -> str:
    """The command line of a run."""
    asked = ["run", "ttft", "--url", f"{sim.url}/v1/chat/completions", "--model", model, "-q", *more]
    return f"{COMMAND} {shlex.join(asked)}"


@pytest.mark.real
def test_a_disk_that_fills_up_ends_the_run_with_exit_4_and_what_was_measured_can_be_reported(
    sim: Simulator, tmp_path: Path
) -> None:
    done = on_a_small_disk(tmp_path / "small", "160k", f"""
        {run(sim, "--duration", "60s", "--concurrency", "20", "--out", str(tmp_path / "reports"))}
        echo "exit $?"
        {COMMAND} report last --json --out {shlex.quote(str(tmp_path / "again"))} > {shlex.quote(str(tmp_path / "json"))}
        echo "report exit $?"
    """)  # fmt: skip
    assert "exit 4" in done.stdout.splitlines(), done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert ".streamgauge/runs/" in done.stderr
    assert "streamgauge report" in done.stderr, "the next step"
    assert "Traceback" not in done.stderr
    report = json.loads((tmp_path / "json").read_text())
    assert report["partial"] is True
    assert report["verdict"] in ("inconclusive", "invalid")
    assert report["metrics"]["ttft_ms"]["n"] > 50
    assert len(list((tmp_path / "again").iterdir())) == 4


@pytest.mark.real
def test_a_disk_too_full_to_begin_costs_no_request(sim: Simulator, tmp_path: Path) -> None:
    before = len(sim.log())
    done = on_a_small_disk(tmp_path / "full", "16k", f"""
        head -c 16384 /dev/zero > filler
        {run(sim, "--requests", "12", "--out", str(tmp_path / "reports"))}
        echo "exit $?"
    """)  # fmt: skip
    assert "exit 4" in done.stdout.splitlines(), done.stdout + done.stderr
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(sim.log()) == before


@pytest.mark.real
def test_a_full_reports_folder_costs_no_measurement(sim: Simulator, tmp_path: Path) -> None:
    done = on_a_small_disk(tmp_path / "reports", "16k", f"""
        cd ..
        {run(sim, "--requests", "12", "--out", "reports")}
        echo "exit $?"
        ls -A reports
    """)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "exit 4", "and no half of a report is left: " + done.stdout + done.stderr
    assert "cannot write reports to reports: No space left on device" in done.stderr
    assert "The run is kept: streamgauge report" in done.stderr
    again = subprocess.run(
        f"{COMMAND} report last --out elsewhere", shell=True, cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert len(list((tmp_path / "elsewhere").iterdir())) == 4


@pytest.mark.parametrize(("limit", "starts"), [(90, False), (400, True)])
def test_a_plan_above_the_descriptor_limit_does_not_start_and_names_it(
    sim: Simulator, tmp_path: Path, limit: int, starts: bool
) -> None:
    before = len(sim.log())
    command = run(sim, "--concurrency", "60", "--requests", "60", "--set", "tests.ttft.prompts=['short']")
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )  # fmt: skip
    if starts:
        assert done.returncode in (0, 3), done.stderr
        assert len(sim.log(at_least=before + 62)) == before + 62
    else:
        assert done.returncode == 2
        assert f"the limit here is {limit} (ulimit -n)" in done.stderr
        assert "--concurrency" in done.stderr
        assert not (tmp_path / ".streamgauge").exists()
        assert len(sim.log()) == before
    assert "Traceback" not in done.stderr


def test_a_soft_limit_is_raised_to_the_hard_one(sim: Simulator, tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = subprocess.run(
        run(sim, "--requests", "12", "--json"), shell=True, cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)),
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    (head,) = (tmp_path / ".streamgauge" / "runs").glob("*/run.json")
    assert json.loads(head.read_text())["descriptors_limit"] == hard
    assert os.getpid()
