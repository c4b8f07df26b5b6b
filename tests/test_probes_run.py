"""Probes as a user has them: in the spec and on the command line, beside a run, in check, in what is kept of both."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli import Done, inline, streamgauge, undisturbed, valid_report
from streamgauge.cli.draft import Draft
from streamgauge.cli.spec_text import Names, spec_text
from streamgauge.dialects import with_options
from streamgauge.errors import Exit, TargetError, UsageError
from streamgauge.sample import Reading
from streamgauge.simulator import Simulator, start
from streamgauge.spec.load import load_spec
from streamgauge.spec.resolve import resolve
from streamgauge.spec.resolved import Resolved
from streamgauge.suite import folder as run_folder
from streamgauge.suite.probing import silent

TOKEN = "tok-Zx81-kjh3-99"
SPEC = """
[environments.local]
url = "{url}"

[targets.app]
path = "/v1/chat/completions"
dialect = "openai-chat"
model = "sim-t20-i2-n10"
headers = {{ authorization = "Bearer ${{PROBE_TOKEN}}" }}

[probes.server]
kind = "process"
pid = {pid}

[probes.web]
kind = "json"
path = "/probe?who=${{WHO}}"
headers = {{ authorization = "Bearer ${{PROBE_TOKEN}}" }}
paths = {{ asked = "requests" }}

[probes.wrong]
kind = "json"
path = "/nothing"

[tests.ttft]
prompts = ["short"]
requests = 60
probes = ["server", "web", "wrong"]
"""
ENV = {"PROBE_TOKEN": TOKEN, "WHO": "who-77-abcdef"}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start(log=False, memory="base=120,request=1", require_key=TOKEN) as running:
        yield running


def spec_in(folder: Path, simulator: Simulator) -> Path:
    text = SPEC.format(url=simulator.url, pid=simulator.pid)
    (folder / "streamgauge.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def cwd(simulator: Simulator, tmp_path: Path) -> Path:
    return spec_in(tmp_path, simulator)


@dataclass
class Ran:
    """A run with three probes, one of which finds nothing."""

    cwd: Path
    report: dict[str, Any]
    done: Done
    readings: list[Reading]


@pytest.fixture(scope="module")
def ran(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    cwd = spec_in(tmp_path_factory.mktemp("ran"), simulator)
    done = undisturbed("run", "ttft", "--json", "--seed", "1", "--concurrency", "2", cwd=cwd, **ENV)
    assert done.out, done.err
    (folder,) = (cwd / run_folder.RUNS).iterdir()
    return Ran(cwd, valid_report(done.out), done, run_folder.readings(folder))


def test_a_run_reads_its_probes_from_start_to_end_and_says_so(simulator: Simulator, ran: Ran) -> None:
    report = ran.report
    assert ran.done.code == 0
    assert "read meanwhile: server (process" in ran.done.err
    server, web, _ = report["run"]["probes"]
    assert (server["name"], server["kind"], server["failed"]) == ("server", "process", 0)
    assert server["reads"] == f"process {simulator.pid}"
    assert web["reads"] == f"{simulator.url}/probe"
    assert web["instances"] == ["sim"]
    assert {"rss", "heap_used", "connections", "asked"} <= set(web["gauges"])
    assert report["run"]["settings"]["probes"] == ["server", "web", "wrong"]
    phases = [(p["start_ns"], p["end_ns"]) for p in report["run"]["phases"]]
    for probe in (server, web):
        mine = [one for one in ran.readings if one.probe == probe["name"]]
        assert len(mine) == probe["readings"] >= 2
        assert mine[0].at_ns < phases[0][0], "before the first request"
        assert mine[-1].at_ns > phases[-1][0], "after the last phase began"
        assert mine[0].snapshot
        assert mine[-1].snapshot
        assert not any(one.collected for one in mine), "ttft times answers: nothing is to be collected meanwhile"
    (folder,) = (ran.cwd / run_folder.RUNS).iterdir()
    (event,) = [one for one in _journal(folder) if one["event"] == "probes"]
    assert [one["name"] for one in event["probes"]] == ["server", "web", "wrong"]


def test_what_is_read_is_what_the_server_has(simulator: Simulator, ran: Ran) -> None:
    last = [one for one in ran.readings if one.probe == "web"][-1].values
    assert last["rss"] - 120e6 == last["asked"] * 1e6 >= 60e6, "a request left 1 MB, as scripted"
    real = psutil.Process(simulator.pid).memory_info().rss
    assert abs([one for one in ran.readings if one.probe == "server"][-1].values["rss"] - real) < 20e6


def _journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text("utf-8").splitlines()]


def test_no_secret_of_a_probe_is_in_what_is_kept_or_shown(ran: Ran) -> None:
    kept = [path.read_bytes() for path in ran.cwd.rglob("*") if path.is_file() and path.name != "streamgauge.toml"]
    assert len(kept) > 4
    checked = inline("check", cwd=ran.cwd, **ENV)
    for secret in ENV.values():
        assert not any(secret.encode() in data for data in kept)
        assert secret not in ran.done.out + ran.done.err + checked.out + checked.err


def test_a_probe_that_cannot_be_read_changes_no_verdict_and_is_told_twice(ran: Ran) -> None:
    assert (ran.done.code, ran.report["verdict"]) == (0, "pass")
    assert "streamgauge: probe wrong gives no reading: 404: nothing is at /nothing" in ran.done.err
    told = ran.report["run"]["probes"][2]
    assert told["readings"] == 0
    assert told["failed"] >= 2
    assert told["error"].startswith("404: nothing is at /nothing")
    assert any("probe wrong" in note and "readings failed" in note for note in ran.report["measurement"]["notes"])


def test_check_says_what_each_probe_sees_or_why_not(simulator: Simulator, cwd: Path) -> None:
    done = inline("check", cwd=cwd, **ENV)
    flat = " ".join(done.out.split())
    assert done.code == 4, "one of them reads nothing"
    assert f"pid {simulator.pid}, python" in flat
    assert "instance sim: asked" in flat
    assert "404: nothing is at /nothing" in flat
    bad = inline("check", "--set", "probes.web.headers={}", "--json", cwd=cwd, **ENV)
    told = json.loads(bad.out)["probes"]
    assert (bad.code, told["web"]["level"]) == (4, "fail")
    assert told["web"]["text"].startswith("401: it does not accept the token")
    assert told["server"]["facts"]["values"]["rss"] > 5e6
    all_read = ("--set", 'tests.ttft.probes=["server", "web"]')
    assert inline("check", *all_read, cwd=cwd, **ENV).code == 0
    missing = inline("check", "--set", 'probes.web.paths={ heap_used = "memory.heapUsed" }', "--json", cwd=cwd, **ENV)
    told = json.loads(missing.out)["probes"]["web"]
    assert "heap_used: memory.heapUsed is not there; there is: instance, pid, rss" in told["text"]


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ("port:x", "probes.port:x.port: must be a whole number"),
        ("port:99999", "must be at most 65,535"),
        ("prot:3000", "--probe prot:3000: is no probe; write pid:1234, port:3000"),
        ("3000", "--probe 3000: is no probe"),
        ("cmd:[bad", "--probe cmd:[bad: "),
        ("ftp://h/x", "only http, https"),
    ],
)
def test_a_wrong_flag_is_told_with_what_is_right(cwd: Path, probe: str, words: str) -> None:
    with pytest.raises(UsageError) as wrong:
        load_spec(cwd / "streamgauge.toml", speak=with_options, environ={}, probes=[probe])
    assert words in str(wrong.value).replace('"', "")


def test_flags_add_probes_and_a_page_gets_the_token(simulator: Simulator, cwd: Path) -> None:
    probes = [f"pid:{os.getpid()}", "port:3000", "cmd:node .*server", f"{simulator.url}/probe?x=1"]
    spec = load_spec(cwd / "streamgauge.toml", speak=with_options, environ=ENV, probes=probes)
    made = resolve(spec, None, ENV, "concurrent").probes
    assert [one.name for one in made[:3]] == ["server", "web", "wrong"]
    pid, port, command, page = made[3:]
    assert (pid.pid, port.port, command.command) == (os.getpid(), 3000, "node .*server")
    assert page.url is not None
    assert page.url.path == "/probe?x=1"
    assert page.name == simulator.url.removeprefix("http://") + "/probe"
    assert [(header.name, header.value, header.secret) for header in page.headers] == [
        ("authorization", f"Bearer {TOKEN}", True)
    ]
    plain = load_spec(cwd / "streamgauge.toml", speak=with_options, environ={}, probes=probes)
    assert plain.model.probes[page.name].headers == {}


def test_a_flag_that_names_a_probe_of_the_spec_again_is_read_once_and_any_other_always(
    simulator: Simulator, cwd: Path
) -> None:
    again = [f"pid:{simulator.pid}", f"{simulator.url}/probe?who={ENV['WHO']}", "port:3000"]
    spec = load_spec(cwd / "streamgauge.toml", speak=with_options, environ=ENV, probes=again)
    whole = resolve(spec, None, ENV, "concurrent")
    assert [one.name for one in whole.probes] == ["server", "web", "wrong", "port:3000"]
    chosen = load_spec(
        cwd / "streamgauge.toml", speak=with_options, environ=ENV, probes=again, sets=['tests.ttft.probes=["server"]']
    )
    names = [one.name for one in resolve(chosen, None, ENV, "ttft").probes]
    assert names[0] == "server"
    assert names[-1] == "port:3000"
    assert len(names) == 3, "the page is in the spec, but not among those this test chose"


def test_a_probe_without_a_target_is_a_mistake(tmp_path: Path) -> None:
    done = streamgauge("run", "--probe", "port:3000", cwd=tmp_path)
    assert done.code == 2
    assert "--probe port:3000 wants a target" in done.err


def resolved(folder: Path, probe: str, environ: dict[str, str] | None = None, env: str | None = None) -> Resolved:
    text = (
        '[targets.a]\nurl = "http://127.0.0.1:9"\ndialect = "ai-sdk"\n'
        '[environments.one]\nurl = "http://127.0.0.1:3000/app"\n[environments.two]\nurl = "http://127.0.0.1:4000"\n'
        f"[probes.p]\n{probe}\n"
    )
    path = folder / "streamgauge.toml"
    path.write_text(text, encoding="utf-8")
    return resolve(load_spec(path, speak=with_options, environ={}), env, environ or {}, "ttft")


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ('kind = "proces"\npid = 1', 'did you mean "process"?'),
        ("pid = 1", 'key "kind" is missing'),
        ('kind = "process"', "give one of pid, port, command"),
        ('kind = "process"\npid = 1\nport = 2', "give one of pid, port, command, not pid and port"),
        ('kind = "process"\npid = 1\nurl = "http://h/x"', 'url goes with kind = "json"'),
        ('kind = "process"\nprot = 3000', 'did you mean "port"?'),
        ('kind = "json"', "give one of url and path"),
        ('kind = "json"\nurl = "h/x"', 'write "http://h/x"'),
        ('kind = "json"\npath = "x"', 'must begin with "/"'),
        ('kind = "json"\npath = "/x"\npid = 3', 'pid goes with kind = "process"'),
        ('kind = "json"\npath = "/x"\nbody = "{}"', 'body goes with method = "POST"'),
        ('kind = "json"\npath = "/x"\ncollect = "gc"', "is neither a query to add"),
        ('kind = "json"\npath = "/x"\npaths = { heapUsed = "a" }', "is no name of a gauge"),
        ('kind = "json"\npath = "/x"\npaths = { rss = "a * b" }', "the number it is multiplied by"),
        ('kind = "json"\npath = "/x"\nheaders = { "a b" = "c" }', "is not a header name"),
        ('kind = "json"\npath = "/x"', "there are several; say which: --env one or --env two"),
        ('kind = "json"\nurl = "http://h/${NAME}"', "${NAME} is not set"),
        ('kind = "json"\nurl = "http://h/x"\ntls = { ca = "none.pem" }', 'no file "none.pem" beside the spec'),
    ],
)
def test_a_wrong_table_is_told_with_its_place_and_what_is_right(tmp_path: Path, probe: str, words: str) -> None:
    with pytest.raises(UsageError) as wrong:
        resolved(tmp_path, probe)
    assert words in str(wrong.value)
    assert "streamgauge.toml:" in str(wrong.value)


def test_a_path_is_below_the_environments_url(tmp_path: Path) -> None:
    (probe,) = resolved(tmp_path, 'kind = "json"\npath = "/api/probe"', env="one").probes
    assert probe.url is not None
    assert (probe.url.origin, probe.url.path) == ("http://127.0.0.1:3000", "/app/api/probe")


def test_a_test_can_name_its_probes_and_no_others(cwd: Path) -> None:
    (cwd / "streamgauge.toml").write_text(
        SPEC.format(url="http://127.0.0.1:9", pid=1).replace('["server", "web"', '["wbe"'), encoding="utf-8"
    )
    with pytest.raises(UsageError, match='no probe "wbe" here; did you mean "web"'):
        load_spec(cwd / "streamgauge.toml", speak=with_options, environ={})


def test_a_test_about_memory_does_not_start_where_no_probe_reads() -> None:
    good = Reading(probe="a", at_ns=1, took_ns=1, values={"rss": 1.0})
    bad = Reading(probe="b", at_ns=1, took_ns=1, error="refused")
    assert silent([good, bad], needed=True) == ("probe b gives no reading: refused",)
    assert silent([bad], needed=False) == ("probe b gives no reading: refused",)
    with pytest.raises(TargetError, match="probe b gives no reading: refused") as failed:
        silent([bad], needed=True)
    assert (failed.value.exit, failed.value.stage) == (Exit.UNUSABLE, "probe")


@pytest.mark.parametrize(
    ("url", "kind"), [("http://localhost:3000/api/chat", "process"), ("https://app.example.com/api/chat", "json")]
)
def test_the_probe_that_init_drafts_is_right_once_its_lines_are_taken_in(tmp_path: Path, url: str, kind: str) -> None:
    text = spec_text(Draft(url, "ai-sdk"), Names())
    begin = text.index("# [probes.")
    end = text.index("\n\n", begin)
    path = tmp_path / "streamgauge.toml"
    path.write_text(text[:begin] + text[begin:end].replace("# ", "", 1).replace("\n# ", "\n") + text[end:], "utf-8")
    (probe,) = load_spec(path, speak=with_options, environ={}).model.probes.values()
    assert probe.kind == kind
    assert (probe.port, probe.path) in ((3000, None), (None, "/api/probe"))
