"""Our own machine gives out: a full disk, descriptors used up. The exit code is right and what was measured stays."""

from __future__ import annotations

import csv
import math
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asked import asked
from cli import environment, valid_report
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
        cwd=folder.parent, env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def run(sim: Simulator, *more: str, model: str = "sim-t30-i1-n10") -> str:
    """The command line of a run."""
    asked = ["run", "ttft", "--url", f"{sim.url}/v1/chat/completions", "--model", model, "-q", *more]
    return f"{COMMAND} {shlex.join(asked)}"


def exits(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the script's commands ended with, each told by `echo "exit $?"`; never a traceback."""
    assert "Traceback" not in done.stderr, done.stderr
    return [line.removeprefix("exit ") for line in done.stdout.splitlines() if line.startswith("exit ")]


@pytest.mark.real
@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_run_with_exit_4_and_what_was_measured_can_be_reported(
    sim: Simulator, tmp_path: Path
) -> None:
    report_json = tmp_path / "report.json"
    done = on_a_small_disk(tmp_path / "small", "160k", f"""
        {run(sim, "--duration", "60s", "--concurrency", "10", "--out", str(tmp_path / "reports"))}
        echo "exit $?"
        {COMMAND} report last --json > {shlex.quote(str(report_json))}
        echo "exit $?"
        find .streamgauge -name '*.part'
    """)  # fmt: skip
    assert exits(done)[0] == "4", done.stderr
    assert re.search(r"cannot write \.streamgauge/runs/.*: No space left on device; .*free space", done.stderr)
    assert "`streamgauge report`" in done.stderr, "the next step"
    assert ".part" not in done.stdout, "no half of a file is left"
    report = valid_report(report_json.read_text())
    assert report["partial"] is True
    assert report["verdict"] in ("inconclusive", "invalid")
    assert report["metrics"]["ttft_ms"]["n"] > 50
    assert len(list((tmp_path / "reports").iterdir())) == 4, "they lie on another disk"
    told_is_true(report, tmp_path / "reports", sim)


def told_is_true(report: dict[str, Any], reports: Path, sim: Simulator) -> None:
    """The quantiles of ttft_service are those of the simulator's true sends, within 5 % of the limit, or doubted.

    Truth of a request: from our `sent` to its first text, so that the simulator's own pick-up counts as the service's.
    """
    (table,) = reports.glob("*.csv")
    with table.open(encoding="utf-8", newline="") as file:
        judged = [row for row in csv.DictReader(file) if row["phase"] == "hold" and row["outcome"] == "ok"]
    records = {record.trace_id: record for record in sim.log()}
    true = []
    for row in judged:
        first = records[row["id"]].first("text")
        assert first is not None
        true.append((first.before_ns - int(row["sent_ns"])) / 1e6)
    true.sort()
    told = report["metrics"]["ttft_service_ms"]
    assert told["n"] == len(true)
    assert told["censored"] == 0
    for stat, share, limit in (("p50", 0.5, 500), ("p95", 0.95, 1_000)):
        off = abs(told[stat] - true[math.ceil(share * len(true)) - 1])
        assert off < 0.05 * limit or report["verdict"] == "invalid", f"{stat} is {off:.0f} ms off"


@pytest.mark.real
def test_a_disk_too_full_to_begin_costs_no_request(sim: Simulator, tmp_path: Path) -> None:
    before = asked(sim)
    done = on_a_small_disk(tmp_path / "full", "16k", f"""
        head -c 16384 /dev/zero > filler
        {run(sim, "--requests", "12", "--out", str(tmp_path / "reports"))}
        echo "exit $?"
    """)  # fmt: skip
    assert exits(done) == ["4"], done.stderr
    assert re.search(r"cannot write \.streamgauge/runs/.*: No space left on device; .*free space", done.stderr)
    assert asked(sim) == before + 1, "only the one that asks"


@pytest.mark.real
def test_a_full_reports_folder_costs_no_measurement_and_leaves_no_half_of_a_report(
    sim: Simulator, tmp_path: Path
) -> None:
    done = on_a_small_disk(tmp_path / "reports", "16k", f"""
        cd ..
        {run(sim, "--requests", "12", "--out", "reports")}
        echo "exit $?"
        ls -A reports
    """)  # fmt: skip
    assert exits(done)[0] in ("4", "5"), "5 goes before 4 where this machine was too busy to measure"
    assert done.stdout.splitlines()[-1].startswith("exit ")
    assert "cannot write reports to reports: No space left on device" in done.stderr
    assert "The run is kept: streamgauge report" in done.stderr
    (folder,) = (tmp_path / ".streamgauge" / "runs").iterdir()
    assert valid_report((folder / "report.json").read_text())["metrics"]["ttft_ms"]["n"] == 12


def limited(soft: int, hard: int, command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command under a descriptor limit of its own."""
    return subprocess.run(
        command, shell=True, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )  # fmt: skip


def test_a_plan_above_the_descriptor_limit_does_not_start_and_names_it(sim: Simulator, tmp_path: Path) -> None:
    before = asked(sim)
    done = limited(90, 90, run(sim, "--concurrency", "60", "--requests", "60"), tmp_path)
    assert done.returncode == 2, done.stderr
    assert "the limit here is 90 (ulimit -n)" in done.stderr
    assert "--concurrency" in done.stderr
    assert not (tmp_path / ".streamgauge").exists()
    assert asked(sim) == before + 1, "only the one that asks"


def test_a_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    code = (
        "import resource; from streamgauge.worker import raise_descriptor_limit as r; "
        "print(r(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = limited(64, 200, f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}", tmp_path)
    assert done.stdout.split() == ["200", "200", "200"], done.stderr
