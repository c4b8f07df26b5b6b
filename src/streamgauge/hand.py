"""A worker process as its parent holds it: started with no secret in its environment, told what to do, heard, ended.

Rules: secrets go over the line, never by command line or environment. A worker that says nothing and does nothing is
told from one that is slow.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from streamgauge.control import Job, Order, Report, Unpacker, pack
from streamgauge.secrets import is_sensitive, secrets_in_url

SILENT_S = 10.0
"""A worker speaks ten times a second. One that says nothing for so long while this process runs, and uses no processor
time in the second half of it, is stopped or hangs."""
SLOW_S = 60.0
"""What a worker gets that is at work, or starting: a busy machine may be slow."""
_AT_WORK_S = 0.02
_FOLDERS = ("PWD", "OLDPWD")  # no passwords


def without_secrets(environ: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """The environment for a worker: it gets its secrets over its line and needs none here.

    What is left out: variables whose name says secret, and those whose value is one or holds a url with a password.
    """
    hidden = frozenset(secrets)
    return {
        name: value for name, value in environ.items()
        if not (value.strip() in hidden or secrets_in_url(value) or (is_sensitive(name) and name not in _FOLDERS))
    }  # fmt: skip


class Hand:
    """One worker process and the line to it."""

    def __init__(self, job: Job) -> None:
        ours, theirs = socket.socketpair()
        self.shard = job.shard
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamgauge.worker", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env=without_secrets(os.environ, job.secrets),
        )
        theirs.close()
        self.line = ours
        self.line.sendall(pack(job))
        self.unpack = Unpacker()
        self.done_phase = -1
        self.drained = False
        self.ready = False
        self.gone = False
        self.open_streams = 0
        self.done_at_ns = 0
        self.silent_s = 0.0
        self._used_s = 0.0

    def order(self, message: Order) -> None:
        """Tell it something; what a dead worker does not hear is noticed by its closed line."""
        with contextlib.suppress(OSError):
            self.line.sendall(pack(message))

    def reports(self) -> Iterator[Report]:
        """What it said; marks it gone when the line is closed."""
        try:
            data = self.line.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.gone = True
        self.silent_s = 0.0
        for body in self.unpack.feed(data):
            report = msgspec.msgpack.decode(body, type=Report)
            self.ready = True
            self.open_streams = report.open_streams
            self.drained = self.drained or report.drained
            if report.phase_done is not None:
                self.done_phase, self.done_at_ns = report.phase_done, report.at_ns
            yield report

    def hangs(self, awake_s: float) -> bool:
        """Nothing was heard of it for `awake_s` more of this process's running time: whether that is too long."""
        before, self.silent_s = self.silent_s, self.silent_s + awake_s
        if before < SILENT_S / 2 <= self.silent_s:
            self._used_s = _processor_s(self.process.pid)
        if not self.ready or self.silent_s <= SILENT_S or self.silent_s > SLOW_S:
            return self.silent_s > SLOW_S
        return _processor_s(self.process.pid) - self._used_s < _AT_WORK_S

    def end(self) -> None:
        """End a worker that hangs."""
        self.process.kill()
        self.gone = True

    def farewell(self) -> int:
        """Close the line and wait; its exit status."""
        self.line.close()
        try:
            return self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _processor_s(pid: int) -> float:
    """Processor time that a process has used; 0 where it is gone."""
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
