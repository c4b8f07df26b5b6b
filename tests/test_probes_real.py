"""The shipped handlers in real servers, against what the system says of the same process."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from real import NODE, PYTHON, node, require
from streamgauge.clock import SystemClock
from streamgauge.probes.contract import Ask, Asking, Gauges, OfJson, OfProcess, ProbeError
from streamgauge.probes.page import page
from streamgauge.probes.process import process
from streamgauge.target import Target

HANDLERS = Path(__file__).parent.parent / "docs" / "examples" / "probes"
SERVERS = Path(__file__).parent / "real_servers"
TOKEN = "tok-98765-abc"
CLOCK = SystemClock()


def ask_for(port: int, token: str = TOKEN) -> Ask:
    target = Target(
        name="p", scheme="http", host="127.0.0.1", port=port, path="/api/probe", dialect="",
        headers=(("authorization", f"Bearer {token}"),) if token else (),
    )  # fmt: skip
    return page(OfJson(target=target, collect="?collect=1"), CLOCK)


def post(port: int, path: str) -> None:
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{port}{path}", method="POST"), timeout=20
    ) as answer:
        assert answer.status == 204


def refused(port: int, header: str | None) -> tuple[int, bytes]:
    """Status and body of an answer to a request without the right token."""
    wanted = urllib.request.Request(f"http://127.0.0.1:{port}/api/probe")
    if header is not None:
        wanted.add_header("authorization", header)
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(wanted, timeout=20)
    with answer.value as error:
        return error.code, error.read()


def same_order(told: Gauges, pid: int) -> None:
    """What the server says of itself is what the system says of it, but for the moment between."""
    real = psutil.Process(pid)
    assert told.pid == pid
    assert 0.7 < told.values["rss"] / real.memory_info().rss < 1.4
    assert abs((told.uptime_s or 0) - (time.time() - real.create_time())) < 5


@contextmanager
def running(command: list[str | Path], environ: dict[str, str]) -> Iterator[tuple[int, int]]:
    """(pid, port) of a server that says its port."""
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, text=True, env={**os.environ, **environ}
    ) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            assert line, "it did not start"
            yield server.pid, int(line)
        finally:
            server.kill()


@pytest.fixture(scope="module")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The handlers as modules, whatever Node takes a .js file for."""
    folder = tmp_path_factory.mktemp("handlers")
    for name in ("express", "next-route"):
        shutil.copy(HANDLERS / f"{name}.js", folder / f"{name}.mjs")
    return folder


@contextmanager
def node_server(handlers: Path, kind: str, **environ: str) -> Iterator[tuple[int, int]]:
    require(node(), "node")
    if kind == "express":
        require((NODE / "node_modules/express/package.json").exists(), "npm package express (scripts/real-setup node)")
    command: list[str | Path] = [
        str(node()),
        "--expose-gc",
        SERVERS / "probe_server.mjs",
        NODE.resolve(),
        handlers,
        kind,
    ]
    with running(command, {"PROBE_TOKEN": TOKEN, **environ}) as found:
        yield found


@pytest.mark.parametrize("kind", ["express", "http", "route"])
def test_a_node_server_tells_its_memory_as_the_system_does(handlers: Path, kind: str) -> None:
    with node_server(handlers, kind) as (pid, port):
        ask = ask_for(port)
        before = ask(Asking())
        same_order(before, pid)
        assert {"heap_used", "heap_total", "external", "array_buffers", "connections"} <= set(before.values)
        assert 0 < before.values["heap_used"] <= before.values["heap_total"] <= before.values["rss"]
        post(port, "/leak?mb=40")
        post(port, "/garbage?mb=40")
        after = ask(Asking(snapshot=True, collect=True))
        assert after.collected
        same_order(after, pid)
        grown = after.values["heap_used"] - before.values["heap_used"]
        assert 30e6 < grown < 60e6, "40 MB are kept, 40 MB were garbage"
        assert after.values["restarts"] == 0


@pytest.mark.parametrize("kind", ["http", "route"])
def test_a_node_server_lets_nobody_in_without_the_token_and_says_nothing(handlers: Path, kind: str) -> None:
    with node_server(handlers, kind) as (_, port):
        for header in (None, "Bearer wrong", f"Bearer {TOKEN}x", TOKEN[:-1], "Bearer "):
            assert refused(port, header) == (401, b"")
        with pytest.raises(ProbeError, match="401: it does not accept the token"):
            ask_for(port, "wrong")(Asking())
    with node_server(handlers, kind, PROBE_TOKEN="") as (_, port):
        assert refused(port, "Bearer ") == (401, b""), "a server without a token lets nobody in"


def test_instances_have_an_id_that_a_restart_keeps(handlers: Path) -> None:
    with node_server(handlers, "http", INSTANCE_ID="web-1") as (_, port):
        assert ask_for(port)(Asking()).instance == "web-1"
    with node_server(handlers, "http", NODE_APP_INSTANCE="3") as (_, port):
        assert ask_for(port)(Asking()).instance == f"{socket.gethostname()}/3"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def python_server(port: int) -> Iterator[int]:
    """The pid of the ASGI app."""
    require((PYTHON.parent / "uvicorn").exists(), "uvicorn and starlette (scripts/real-setup venv)")
    command = [str(PYTHON.absolute()), str(SERVERS / "probe_app.py"), str(HANDLERS), str(port)]
    with subprocess.Popen(command, env={**os.environ, "PROBE_TOKEN": TOKEN}) as server:
        try:
            until = time.monotonic() + 120
            while time.monotonic() < until:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield server.pid
        finally:
            server.kill()


def test_an_asgi_app_tells_its_memory_and_a_restart_is_noticed_by_both_probes() -> None:
    port = free_port()
    ask, by_system = ask_for(port), process(OfProcess(port=port), CLOCK)
    with python_server(port) as pid:
        before = ask(Asking())
        same_order(before, pid)
        assert abs(by_system(Asking()).values["rss"] - before.values["rss"]) < 5e6
        post(port, "/leak?mb=40")
        after = ask(Asking(collect=True))
        assert after.collected
        assert 35e6 < after.values["rss"] - before.values["rss"] < 50e6
        assert refused(port, "Bearer wrong") == (401, b"")
        assert refused(port, None) == (401, b"")
        assert ask(Asking()).values["restarts"] == 0
    with pytest.raises(ProbeError, match="refused"):
        ask(Asking())
    with python_server(port) as second:
        told = ask(Asking())
        same_order(told, second)
        assert (told.instance, told.values["restarts"]) == (before.instance, 1)
        assert by_system(Asking()).values["restarts"] == 1
