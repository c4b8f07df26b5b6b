"""A run that is broken off keeps what it measured, leaves no process behind, and ends with the right code."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cli import environment, inline, streamgauge, valid_report
from streamgauge.simulator import Simulator, start

MODEL = "sim-t300-i2-n20"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start(log=False) as running:
        yield running


class Running:
    """A run in its own process, under load, with its workers known."""

    def __init__(self, simulator: Simulator, cwd: Path) -> None:
        self.cwd = cwd
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "streamgauge", "run", "ttft", "--url", f"{simulator.url}/v1/chat/completions",
                "--model", MODEL, "--duration", "240s", "-q", "--json",
            ],
            cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.wait_for(lambda: bool(self.samples()) and self.samples()[0].stat().st_size > 20_000, "samples on disk")
        self.workers = psutil.Process(self.process.pid).children(recursive=True)
        assert self.workers

    def samples(self) -> list[Path]:
        return sorted(self.cwd.glob(".streamgauge/runs/*/samples-*.sgs"))

    def wait_for(self, true: object, what: str, within_s: float = 120) -> None:
        assert callable(true)
        until = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < until, f"no {what} within {within_s} s"
            time.sleep(0.05)

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=300)
        return self.process.returncode, out, err

    def nothing_is_left(self) -> bool:
        return not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in self.workers)


@pytest.fixture
def running(simulator: Simulator, tmp_path: Path) -> Iterator[Running]:
    run = Running(simulator, tmp_path)
    yield run
    if run.process.poll() is None:
        run.process.kill()
        run.process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_and_keeps_what_was_measured(running: Running, number: int, code: int) -> None:
    running.process.send_signal(number)
    ended, out, err = running.ended()
    assert ended == code, err
    report = valid_report(out)
    assert report["partial"] is True
    assert report["verdict"] in ("inconclusive", "invalid"), "a partial run never passes"
    assert report["metrics"]["ttft_ms"]["n"] > 5
    (hold,) = [phase for phase in report["run"]["phases"] if phase["name"] == "hold"]
    assert hold["end_ns"] > hold["start_ns"], "as far as its records reach"
    assert report["scalars"]["requests_per_s"] > 0
    assert running.nothing_is_left()
    assert len(list(running.cwd.glob("tests/performance/reports/*"))) == 4


def test_a_second_ctrl_c_ends_open_streams_at_once(running: Running) -> None:
    os.kill(running.process.pid, signal.SIGINT)
    os.kill(running.process.pid, signal.SIGINT)
    ended, out, _ = running.ended()
    assert ended == 130
    assert valid_report(out)["partial"] is True
    assert running.nothing_is_left()


def test_kill_9_of_the_parent_leaves_no_worker_and_a_run_that_can_be_reported(running: Running) -> None:
    running.process.kill()
    running.ended()
    running.wait_for(running.nothing_is_left, "end of the workers", 10)
    done = streamgauge("report", "last", "--json", cwd=running.cwd)
    report = valid_report(done.out)
    assert done.code in (3, 5)
    assert report["partial"] is True
    assert report["verdict"] in ("inconclusive", "invalid"), "a partial run never passes"
    assert report["run"]["stopped_by"] == "the run was killed"
    assert report["metrics"]["ttft_ms"]["n"] > 5


def test_kill_9_of_a_worker_ends_the_run_as_invalid_with_the_cause_named(running: Running) -> None:
    running.workers[0].kill()
    ended, out, _ = running.ended()
    report = valid_report(out)
    assert ended == 5
    assert (report["partial"], report["verdict"]) == (True, "invalid")
    assert any("worker 0" in reason for reason in report["measurement"]["invalid_because"])
    assert report["metrics"]["ttft_ms"]["n"] > 5


@pytest.mark.parametrize("tests", [("ttft",), ("all",)], ids=" ".join)
def test_a_reports_folder_that_cannot_be_written_is_told_before_anything_is_sent(
    tests: tuple[str, ...], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/chat/completions"
        done = inline("run", *tests, "--url", url, "--model", "m", "--out", "/proc/reports", cwd=tmp_path)
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody connected
            listening.accept()
    assert done.code == 2
    assert "'--out'" in done.err
    assert "/proc/reports: no report can be written there" in done.err
    assert "name another folder" in done.err
    assert list(tmp_path.iterdir()) == []


def test_missing_rights_to_the_reports_folder_are_told_and_no_trace_is_left(tmp_path: Path) -> None:
    """As another user, since root may write everywhere."""
    open_to_all = Path(tempfile.mkdtemp())
    closed = open_to_all / "closed"
    closed.mkdir(mode=0o555)
    code = (
        "import os, sys, click\nfrom streamgauge.cli.place import reports_folder\n"
        "os.getuid() or os.setuid(65534)\n"
        "for one in sys.argv[1:]:\n"
        "  try: print(reports_folder(click.Context(click.Command('run')), None, one))\n"
        "  except click.BadParameter as error: print(error.message)\n"
    )
    places = [str(closed), f"{closed}/deeper/still", str(open_to_all)]
    open_to_all.chmod(0o777)
    done = subprocess.run([sys.executable, "-c", code, *places], capture_output=True, text=True, timeout=60, check=True)
    said = "no report can be written there: Permission denied; name another folder with --out"
    left = list(open_to_all.rglob("*"))
    closed.rmdir()
    open_to_all.rmdir()
    assert done.stdout.splitlines() == [*(f"{one}: {said}" for one in places[:2]), str(open_to_all)]
    assert left == [closed]


def test_a_reports_folder_that_gets_lost_during_the_run_costs_no_measurement(
    simulator: Simulator, tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "streamgauge", "run", "ttft", "--url", f"{simulator.url}/v1/chat/completions",
        "--model", "sim-t150-i2-n10", "--requests", "110", "--concurrency", "10", "-q", "--out", "reports",
    ]  # fmt: skip
    run = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not list(tmp_path.glob(".streamgauge/runs/*/journal.jsonl")) and time.monotonic() < until:
        time.sleep(0.02)
    (tmp_path / "reports").write_text("in the way")
    _, err = run.communicate(timeout=300)
    assert run.returncode in (4, 5), "5 goes before 4 where this machine was too busy to measure"
    assert "The run is kept: streamgauge report" in err
    again = streamgauge("report", "last", "--out", "elsewhere", cwd=tmp_path)
    assert again.code in (0, 3, 5), "3 or 5 where this machine is too busy"
    assert len(list((tmp_path / "elsewhere").iterdir())) == 4


def test_two_runs_at_once_do_not_disturb_each_others_files(simulator: Simulator, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "streamgauge", "run", "ttft", "--url", f"{simulator.url}/v1/chat/completions",
        "--model", "sim-t150-i2-n10", "--requests", "110", "--concurrency", "10", "-q",
    ]  # fmt: skip
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for run in both:
        _, err = run.communicate(timeout=300)
        assert run.returncode in (0, 3, 5), err  # on a busy machine the spread is left open, or nothing was measured
    assert len(list((tmp_path / ".streamgauge" / "runs").iterdir())) == 2
    assert len(list(tmp_path.glob("tests/performance/reports/*.html"))) == 2
