"""What the command line says around a run: plans, progress, readers that leave."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import environment
from streamgauge.cli import cli
from streamgauge.clock import FakeClock, S
from streamgauge.errors import UsageError
from streamgauge.plan import Hold, Lane, Phase
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


@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="a shell sets the limit of its child")
@pytest.mark.parametrize("test", ["concurrent", "stress"])
def test_a_dry_run_says_that_this_machine_has_too_few_descriptors(test: str, tmp_path: Path) -> None:
    words = shlex.join([sys.executable, "-m", "streamgauge", "run", test, *PLAN[2:], "--concurrency", "5000"])
    for more, stream in (("", "stdout"), (" --json", "json")):
        done = subprocess.run(
            ["/bin/sh", "-c", f"ulimit -n 256; exec {words}{more}"],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        said = json.loads(done.stdout)["plan"][0]["cannot_start"] if stream == "json" else done.stdout
        assert "the plan wants 5,000 streams" in said
        assert "--concurrency 192" in said


def test_a_reader_that_leaves_does_not_turn_the_exit_code_into_fail(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "streamgauge", "completion", "bash"],
        cwd=tmp_path, env=environment(), stdout=write, stderr=subprocess.PIPE, text=True, timeout=300, check=False,
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


def test_the_level_of_a_phase_is_told_for_each_target_where_each_has_its_own() -> None:
    clock, stream = FakeClock(), io.StringIO()
    lanes = tuple(Lane((name,), ("short",), Hold(4), 10) for name in "abc")
    three, shared = Phase("hold", lanes, 4), Phase("hold", (Lane(("a", "b"), ("short",), Hold(100), 10),), 100)
    with Progress("ttft", (three,), clock, stream=stream) as progress:
        progress(Began(three, clock.now()))
    with Progress("concurrent", (shared,), clock, stream=stream) as progress:
        progress(Began(shared, clock.now()))
    first, second = stream.getvalue().splitlines()
    assert first.startswith("ttft hold, 4 a target | ")
    assert second.startswith("concurrent hold at 100 | ")


def test_a_model_that_is_not_sent_and_a_request_without_one_are_told_before_anything_is_sent(here: Path) -> None:
    label = "model gpt-4o is only a label here: the request does not carry it"
    for path, model, note in (
        ("/api/chat", ("--model", "gpt-4o"), label),
        ("/api/chat", (), None),
        ("/v1/messages", ("--model", "m"), None),
        ("/v1/messages", (), "target: no model is named (--model, or model in the spec)"),
        ("/v1/chat/completions", (), "target: no model is named (--model, or model in the spec)"),
    ):
        (plan,) = json.loads(typed("run", "--url", f"http://127.0.0.1:9{path}", *model, "--dry-run", "--json").stdout)[
            "plan"
        ]
        assert [note is not None and note in told for told in plan["notes"]] == [True] * (note is not None), plan
    (here / "streamgauge.toml").write_text(
        "[targets.a]\nurl = 'http://127.0.0.1:9/api/chat'\ndialect = 'ai-sdk'\nmodel = 'x'\n"
        'body = \'{"modelId": "{model}", "text": "{prompt}"}\'\n'
    )
    (plan,) = json.loads(typed("run", "ttft", "--dry-run", "--json").stdout)["plan"]
    assert plan["notes"] == []


def test_a_spec_in_a_folder_above_is_told_and_not_used(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "streamgauge.toml").write_text("[targets.a]\nurl = 'http://127.0.0.1:9'\ndialect = 'ai-sdk'\n")
    (here / "web" / "src").mkdir(parents=True)
    monkeypatch.chdir(here / "web" / "src")
    told = "--config ../../streamgauge.toml takes the one above"
    done = typed("run", "--dry-run", CI="")
    assert told in done.stderr
    assert "127.0.0.1:9 " not in done.output
    for verb, env in (("run", {"CI": "1"}), ("check", {})):
        refused = typed(verb, **env)
        assert isinstance(refused.exception, UsageError)
        assert told in str(refused.exception)


def test_check_and_a_dry_run_tell_the_same_plan(here: Path) -> None:
    (plan,) = json.loads(typed(*PLAN, "--json").stdout)["plan"]
    checked = json.loads(typed("check", *PLAN[2:6], "--json").stdout)["plans"]["ttft"]
    assert checked == {"starts": True, **plan}


def test_a_terminal_that_cannot_redraw_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    clock, stream = FakeClock(), Terminal()
    with Progress("ttft", (HOLD,), clock, stream=stream) as progress:
        progress(Began(HOLD, clock.now()))
    assert stream.getvalue().startswith("ttft hold at 4")
    assert "\x1b" not in stream.getvalue()
