"""Real servers with a planted leak beside the same ones without: Node with the AI SDK, Python under uvicorn.

Runs of seconds cannot decide growth, and the reports say so of both of a pair: an hour does (docs/faults.md). What they
do show is what is still held after a collection; and a process that meets its limit and begins anew is told at any
length. Truth is what was planted: so many bytes for each request.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from real import NODE, PYTHON, node, require
from test_probes_real import HANDLERS, SERVERS, TOKEN, free_port, running
from test_stress import criterion
from whole import Whole

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="the Python handler and its limit are Linux's"),
]
GROWTH, UNBOUNDED = "memory_growth_mb_per_h", "memory_unbounded"
SPEC = """
[targets.chat]
url = "http://127.0.0.1:{port}{path}"
dialect = "{dialect}"
{more}

[probes.page]
kind = "json"
url = "http://127.0.0.1:{port}/api/probe"
collect = "?collect=1"
headers = {{ authorization = "Bearer ${{PROBE_TOKEN}}" }}

[probes.process]
kind = "process"
port = {port}

[tests.memory]
duration = {hold}
concurrency = 4
burst = 12
burst_duration = 3
idle = 3
"""
KB = 400
"""What a request of a pair leaves."""
LIMIT_MB, LARGE_KB = 150, 1_500
"""A process of so much dies about every eight seconds where each request leaves so much."""
AI_SDK = ("ai-sdk", f"/api/chat?words=10&gap_ms=5&kb={KB}", "")
OPENAI = ("openai-chat", "/v1/chat/completions?words=20&gap_ms=5", 'model = "m"')
SLOWLY = ("openai-chat", "/v1/chat/completions?words=20&gap_ms=20", 'model = "m"')


@contextmanager
def python_chat(leak: str, kb: int, limit_mb: int = 0) -> Iterator[int]:
    """The port of leaky_chat.py, which listens when the block begins; all that it started ends with the block."""
    port = free_port()
    command = [str(PYTHON.absolute()), str(SERVERS / "leaky_chat.py"), str(HANDLERS), str(port), leak, str(kb)]
    with subprocess.Popen(
        [*command, str(limit_mb)], env={**os.environ, "PROBE_TOKEN": TOKEN}, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as one:  # fmt: skip
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until and not listens(port):
                time.sleep(0.1)
            yield port
        finally:
            os.killpg(one.pid, signal.SIGKILL)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def node_chat(handlers: Path, leak: str) -> Iterator[int]:
    """The port of leaky_chat.mjs."""
    command: list[str | Path] = [str(node()), "--expose-gc", SERVERS / "leaky_chat.mjs", NODE.resolve(), handlers, leak]
    with running(command, {"PROBE_TOKEN": TOKEN}) as (_, port):
        yield port


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Whole]]:
    """All of them at once: the load is small, and none of them is timed."""
    begun: dict[str, Whole] = {}
    with ExitStack() as stack:

        def begin(name: str, port: int, chat: tuple[str, str, str], hold: int = 8) -> None:
            dialect, path, more = chat
            text = SPEC.format(port=port, path=path, dialect=dialect, more=more, hold=hold)
            begun[name] = Whole("memory", tmp_path_factory.mktemp("run"), text, {"PROBE_TOKEN": TOKEN})

        if (PYTHON.parent / "uvicorn").exists():
            begin("limit", stack.enter_context(python_chat("list", LARGE_KB, LIMIT_MB)), SLOWLY, hold=22)
            for leak in ("none", "list"):
                begin(f"python {leak}", stack.enter_context(python_chat(leak, KB)), OPENAI)
        if node() and (NODE / "node_modules/ai/package.json").exists():
            handlers = tmp_path_factory.mktemp("handlers")
            shutil.copy(HANDLERS / "express.js", handlers / "express.mjs")
            for leak in ("none", "listener"):
                begin(f"node {leak}", stack.enter_context(node_chat(handlers, leak)), AI_SDK)
        yield begun
        for one in begun.values():
            one.wait()


def report_of(runs: dict[str, Whole], name: str) -> dict[str, Any]:
    kind = name.split()[0]
    require(
        name in runs,
        "the npm package ai (scripts/real-setup node)" if kind == "node" else "uvicorn (scripts/real-setup venv)",
    )
    return runs[name].ended()


def stayed(report: dict[str, Any], gauge: str) -> float:
    """Bytes more at the end than at the beginning, each after a collection that the server says it made."""
    kept = [one for one in report["memory"]["snapshots"] if one["probe"] == "page" and one["collected"]]
    assert kept[0]["t_s"] < 3
    assert kept[-1]["phase"] in ("idle", "drain", None)
    return float(kept[-1]["values"][gauge] - kept[0]["values"][gauge])


@pytest.mark.parametrize(("server", "leak", "gauge"), [("node", "listener", "heap_used"), ("python", "list", "rss")])
def test_what_a_real_server_keeps_is_in_its_snapshots_and_its_clean_twin_keeps_little(
    runs: dict[str, Whole], server: str, leak: str, gauge: str
) -> None:
    clean, leaky = report_of(runs, f"{server} none"), report_of(runs, f"{server} {leak}")
    answered = leaky["outcomes"]["ok"]

    assert answered >= 10
    assert stayed(leaky, gauge) > 1_000 * KB * answered, "the warm-up's and the burst's stay besides"
    assert stayed(clean, gauge) < 0.4 * stayed(leaky, gauge)


@pytest.mark.parametrize("name", ["node none", "node listener", "python none", "python list"])
def test_seconds_accuse_no_real_server_and_acquit_none(runs: dict[str, Whole], name: str) -> None:
    report = report_of(runs, name)

    for metric in (GROWTH, UNBOUNDED):
        told = criterion(report, metric)
        assert told["verdict"] in ("inconclusive", "invalid"), "invalid where this machine is too busy"
        assert told["verdict"] == "invalid" or "about 1 h of load would decide" in told["sentence"]
        assert told["value"] is None
    assert report["verdict"] in ("inconclusive", "invalid")
    assert not {"memory_grows", "left_by_requests", "restart_seen"} & {one["name"] for one in report["findings"]}


def test_a_real_process_that_ends_at_its_own_limit_is_a_restart_and_no_pass(runs: dict[str, Whole]) -> None:
    report = report_of(runs, "limit")
    told = {one["name"]: one["words"] for one in report["findings"]}

    assert report["verdict"] != "pass"
    assert criterion(report, GROWTH)["verdict"] != "pass"
    assert "began anew" in told["restart_seen"]
    assert any(one["restarts"] >= 1 for one in report["memory"]["series"])
    assert {"connections_refused", "lost_together", "lost_at_any_age"} & set(told), told
    peaks = [one["peak_mb"] for one in report["memory"]["series"] if one["peak_mb"] is not None]
    assert all(peak < LIMIT_MB + 60 for peak in peaks), "it never grew beyond its limit and its program"
