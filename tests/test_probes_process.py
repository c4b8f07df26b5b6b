"""The process probe against real processes of this machine, held against what /proc says of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from streamgauge.clock import SystemClock
from streamgauge.probes.contract import Ask, Asking, Gauges, OfProcess, ProbeError
from streamgauge.probes.process import process

CLOCK = SystemClock()
SERVER = """
import socket, sys, os, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
ballast = b"x" * int(sys.argv[2])
if len(sys.argv) > 3:  # children that hold memory of their own
    for _ in range(int(sys.argv[3])):
        if os.fork() == 0:
            own = b"y" * int(sys.argv[2])
            time.sleep(60)
print(listener.getsockname()[1], flush=True)
time.sleep(60)
"""


@contextmanager
def server(port: int = 0, ballast: int = 1, children: int = 0, mark: str = "") -> Iterator[tuple[int, int]]:
    """(pid, port) of a real server in a process group of its own."""
    command = [sys.executable, "-c", SERVER + mark, str(port), str(ballast), *([str(children)] if children else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stdout is not None
        try:
            yield child.pid, int(child.stdout.readline())
        finally:
            os.killpg(child.pid, signal.SIGKILL)


def resident(pid: int) -> int:
    """Bytes, as the system has them."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def seen(ask: Ask, good: Callable[[Gauges], bool] = lambda _: True, within_s: float = 60.0) -> Gauges:
    """What it tells, once that is `good`."""
    until = time.monotonic() + within_s
    while True:
        try:
            told = ask(Asking())
            if good(told) or time.monotonic() > until:
                return told
        except ProbeError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


@pytest.mark.parametrize("way", ["pid", "port", "command"])
def test_a_process_is_found_and_its_memory_is_what_the_system_says(way: str) -> None:
    mark = f"# mark-{os.getpid()}"
    with server(ballast=50_000_000, mark=mark) as (pid, port):
        source = {"pid": OfProcess(pid=pid), "port": OfProcess(port=port), "command": OfProcess(command=mark)}[way]
        told = process(source, CLOCK)(Asking())
        assert told.pid == pid
        assert abs(told.values["rss"] - resident(pid)) < 2_000_000
        assert told.values["rss"] > 50_000_000
        assert told.values["threads"] == 1
        assert told.values["descriptors"] >= 4
        assert told.values["connections"] == 0
        assert told.values["restarts"] == 0
        assert 0 <= (told.uptime_s or 0.0) < 30
        assert "pss" not in told.values, "only snapshots have every page walked"


def test_a_snapshot_knows_what_is_shared() -> None:
    with server(ballast=20_000_000) as (pid, _):
        told = process(OfProcess(pid=pid), CLOCK)(Asking(snapshot=True))
        assert 20_000_000 < told.values["uss"] <= told.values["pss"] <= told.values["rss"]


def test_children_count_with_their_parent() -> None:
    with server(ballast=30_000_000, children=2) as (pid, port):
        told = seen(process(OfProcess(port=port), CLOCK), lambda one: one.values["rss"] > 120_000_000)
        assert told.pid == pid
        assert told.values["processes"] == 3
        assert told.values["rss"] > 120_000_000, "30 MB of the parent's in all three, 30 MB more in each child"


def test_open_connections_are_counted() -> None:
    with server() as (pid, port), socket.create_connection(("127.0.0.1", port)):
        told = process(OfProcess(pid=pid), CLOCK)(Asking())
    assert told.values["connections"] == 0, "not accepted: the server knows nothing of it"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as there:
        with listener.accept()[0]:
            told = process(OfProcess(pid=os.getpid()), CLOCK)(Asking())
            assert told.values["connections"] >= 2, "both ends of it are here"
        assert there.fileno() > 0


def test_a_restart_is_noticed_by_port() -> None:
    with server() as (first, port):
        ask = process(OfProcess(port=port), CLOCK)
        assert ask(Asking()).pid == first
    with pytest.raises(ProbeError, match=f"nothing listens on port {port}"):
        ask(Asking())
    with server(port) as (second, _):
        told = seen(ask)
        assert told.pid == second != first
        assert told.values["restarts"] == 1


def test_a_process_given_by_id_does_not_come_back() -> None:
    with server() as (pid, _):
        ask = process(OfProcess(pid=pid), CLOCK)
        ask(Asking())
    with pytest.raises(ProbeError, match=f"process {pid} is gone; a probe by port or command finds the next one"):
        ask(Asking())


def test_a_pattern_finds_neither_this_program_nor_what_started_it() -> None:
    with pytest.raises(ProbeError, match="no process has"):
        process(OfProcess(command="pytest.*" + "no-such-" + "thing"), CLOCK)(Asking())
    mine = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()
    try:
        told = process(OfProcess(command="^" + mine), CLOCK)(Asking())
    except ProbeError:
        return
    assert told.pid != os.getpid()


def test_a_killed_child_that_nobody_waited_for_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    ask = process(OfProcess(pid=child.pid), CLOCK)
    assert ask(Asking()).pid == child.pid
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and left as it is
    with pytest.raises(ProbeError, match="is gone"):
        ask(Asking())
    child.wait()


def test_a_reading_costs_little() -> None:
    with server(children=3) as (_, port):
        ask = process(OfProcess(port=port), CLOCK)
        ask(Asking())
        took = []
        for _ in range(8):
            before = time.process_time()
            ask(Asking())
            took.append(time.process_time() - before)
        many = max(1.0, len(psutil.pids()) / 200)  # every process of the machine is looked at
        assert min(took) < 0.1 * many, "2 % of a core at one reading every 5 s is far too much"
