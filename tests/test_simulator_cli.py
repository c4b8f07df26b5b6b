from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamgauge.cli.sim import sim
from streamgauge.errors import UsageError
from streamgauge.simulator import read
from streamgauge.simulator.faults import FAULTS
from streamgauge.simulator.options import Options
from streamgauge.simulator.script import STEPS
from streamgauge.simulator.truth import Record
from streamgauge.simulator.voices import APIS

PAGE = (Path(__file__).parent.parent / "docs" / "simulator.md").read_text(encoding="utf-8")


def test_the_command_says_where_it_listens_and_ends_with_its_log(tmp_path: Path):
    log = tmp_path / "truth.jsonl"
    code = "import sys; from streamgauge.cli.sim import sim; sim(sys.argv[1:])"
    command = [sys.executable, "-c", code, "--for", "60s", "--log", str(log), "--fault", "html=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            said = [process.stdout.readline()]
            while not said[-1].startswith("Ctrl-C"):
                said.append(process.stdout.readline())
                assert said[-1], process.stderr.read()
            url = said[0].removeprefix("Simulator: ").strip()
            with urllib.request.urlopen(url + "/healthz") as answer:
                assert answer.read() == b'{"status":"ok"}'
        finally:
            process.terminate()
        assert process.stderr.read() == f"Ended. 1 requests answered. Truth log: {log}\n"
    assert process.returncode == 0
    assert all(f"{url}{api.paths[0]}" in "".join(said) for api in APIS.values())
    assert "  curl -N" in "".join(said)
    assert [record.path for record in read(log)] == ["/healthz"]


def test_the_curl_examples_are_requests_that_the_apis_take():
    for api in APIS.values():
        body = re.search(r"-d '(.*)'$", api.curl.format(url="http://x"), re.DOTALL)
        assert body is not None
        path = api.paths[0].replace("{model}", "gemini-2.0-flash")
        asked = api.read(path.partition("?")[0], path.partition("?")[2], json.loads(body.group(1)), 0)
        assert asked.stream


def test_help_has_examples_and_faults_are_listed():
    shown = CliRunner().invoke(sim, ["--help"]).output
    assert "streamgauge sim --fault drop=0.01" in shown
    listed = CliRunner().invoke(sim, ["--faults"])
    assert listed.exit_code == 0
    assert all(re.search(rf"^{name} ", listed.output, re.MULTILINE) for name in FAULTS)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--fault", "nonsense"], "unknown"), (["--queue", "3"], "capacity"), (["--tls-cert", "/nowhere"], "tls-key")],
)
def test_what_cannot_work_is_a_usage_error(arguments: list[str], named: str):
    error = CliRunner().invoke(sim, arguments).exception
    assert isinstance(error, UsageError)
    assert named in str(error)


def test_a_duration_must_have_a_unit_that_is_known():
    done = CliRunner().invoke(sim, ["--for", "soon"])
    assert done.exit_code == 2
    assert "60s, 10m or 250ms" in done.output


def test_the_page_names_every_fault_step_option_and_field():
    missing = [name for name in FAULTS if f"`{name}`" not in PAGE]
    missing += [name for name in STEPS if f'["{name}"' not in PAGE]
    missing += [field.name for field in fields(Record) if f"`{field.name}`" not in PAGE]
    known = PAGE.replace("-", "_")
    missing += [f.name for f in fields(Options) if f.name not in ("parent_pid", "faults") and f.name not in known]
    assert missing == []
