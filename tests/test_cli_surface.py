"""What the command line says around a run: plans, progress, readers that leave."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import environment
from streamgauge.cli import cli
from streamgauge.clock import FakeClock, S
from streamgauge.plan import Phase
from streamgauge.progress import Progress
from streamgauge.run import Began, Stopping

PLAN = ("run", "ttft", "--url", "http://127.0.0.1:9/v1/chat/completions", "--model", "m", "--dry-run")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*arguments: str, **env: str) -> Result:
    """The command in this process: quick, for what sends nothing."""
    return CliRunner().invoke(cli, arguments, env=env, standalone_mode=False)


@pytest.mark.usefixtures("here")
def test_a_dry_run_says_where_it_would_send_but_no_secret() -> None:
    url = "http://127.0.0.1:9/v1/chat/completions?key=${SG_SURFACE_KEY}"
    done = typed("run", "--url", url, "--dry-run", SG_SURFACE_KEY="s3cr3t-planted-77")
    assert done.return_value == 0, done.output
    assert "target is http://127.0.0.1:9/v1/chat/completions" in done.stdout
    assert "planted" not in done.output


@pytest.mark.usefixtures("here")
def test_a_dry_run_in_json_is_json_alone() -> None:
    (plan,) = json.loads(typed(*PLAN, "--json").stdout)["plan"]
    assert plan["targets"] == {"target": "http://127.0.0.1:9/v1/chat/completions"}
    assert plan["requests"] == 152
    assert "ttft_ms.p95 < 1000" in plan["decides"]
    assert plan["usd"] is None, "an unknown cost is not 0"


def test_a_reader_that_leaves_does_not_turn_the_exit_code_into_fail(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "streamgauge", "completion", "bash"],
        cwd=tmp_path, env=environment(), stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_misspelt_fault_names_the_nearest() -> None:
    assert "did you mean 'stall'?" in str(typed("sim", "--fault", "stal=0.1").exception)


def test_help_as_a_verb_says_what_to_type() -> None:
    assert "streamgauge VERB --help" in str(typed("help").exception)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


HOLD = Phase("hold", (), 4, duration_ns=10 * S)


def test_ctrl_c_is_answered_at_once() -> None:
    clock, stream = FakeClock(), io.StringIO()
    with Progress("ttft", (HOLD,), clock, stream=stream) as progress:
        progress(Began(HOLD, clock.now()))
        progress(Stopping(5 * S))
        progress(Stopping(0))
    _, first, second = stream.getvalue().splitlines()
    assert "open streams get 5 s" in first
    assert "Ctrl-C again" in first
    assert second == "stopping: no new requests; open streams end now"


def test_quiet_stays_quiet_at_ctrl_c() -> None:
    stream = io.StringIO()
    with Progress("ttft", (HOLD,), FakeClock(), quiet=True, stream=stream) as progress:
        progress(Stopping(0))
    assert stream.getvalue() == ""


def test_a_phase_that_begins_in_a_moment_is_not_before_its_start() -> None:
    clock, stream = FakeClock(), io.StringIO()
    with Progress("ttft", (HOLD,), clock, stream=stream) as progress:
        progress(Began(HOLD, clock.now() + 2_000_000))
    assert "| 0 s |" in stream.getvalue()


def test_a_terminal_that_cannot_redraw_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    clock, stream = FakeClock(), Terminal()
    with Progress("ttft", (HOLD,), clock, stream=stream) as progress:
        progress(Began(HOLD, clock.now()))
    assert stream.getvalue().startswith("ttft hold at 4")
    assert "\x1b" not in stream.getvalue()
