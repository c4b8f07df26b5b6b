"""What can go wrong with the machine that measures, done to one run: busy cores, stopped processes, clock steps.

Each disturbance begins once the judged phase has, is bounded in time, and touches only the run's own processes. The
clock that steps is that of the run's processes alone (bench/stepped_clock.c); the machine's is never touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

AFTER_S = 3.0
"""Of the judged phase, until the disturbance."""
_SPIN = "import time\nuntil = time.monotonic() + {}\nwhile time.monotonic() < until: pass"
_SPUN_S = 100


@dataclass
class Run:
    """One run under way: its parent process, its folder, the file that steps its clock."""

    process: subprocess.Popen[str]
    cwd: Path
    steps: Path
    _told: list[tuple[int, int]] = field(default_factory=list)

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with contextlib.suppress(OSError):
            return [int(pid) for pid in path.read_text().split() if _is_worker(int(pid))]
        return []

    def wait_for_hold(self) -> bool:
        """Until the judged phase began; False when the run ended before."""
        while self.process.poll() is None:
            for journal in self.cwd.glob(".streamgauge/runs/*/journal.jsonl"):
                if '"name": "hold"' in journal.read_text():
                    return True
            time.sleep(0.05)
        return False

    def step(self, jump_ns: int) -> None:
        """The wall clock of this run's processes steps now."""
        self._told.append((time.monotonic_ns(), jump_ns))
        pairs = b"".join(struct.pack("<qq", *one) for one in self._told)
        data = struct.pack("<q", len(self._told)) + pairs
        with self.steps.open("r+b") as file:
            file.seek(8)
            file.write(data[8:])
            file.flush()
            file.seek(0)
            file.write(data[:8])


Act = Callable[[Run, threading.Event], None]


def nothing(run: Run, over: threading.Event) -> None:
    """No disturbance."""


def busy_core(run: Run, over: threading.Event) -> None:
    """The worker shares one core with a spinning process, from the beginning of the judged phase."""
    core = max(os.sched_getaffinity(0))
    for pid in run.workers():
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, {core})
    with _spinning(core):
        over.wait(_SPUN_S)


def worker_stopped(seconds: float) -> Act:
    """SIGSTOP to the workers, SIGCONT so many seconds later."""

    def act(run: Run, over: threading.Event) -> None:
        if not over.wait(AFTER_S):
            _stopped(run.workers(), over, seconds)

    return act


def worker_halting(run: Run, over: threading.Event) -> None:
    """The workers are stopped for 60 of every 100 ms, as `cpulimit` does it."""
    pids = run.workers()
    while not over.wait(0.04):
        _stopped(pids, over, 0.06)


def parent_stopped(run: Run, over: threading.Event) -> None:
    """SIGSTOP to the parent, SIGCONT 3 s later."""
    if not over.wait(AFTER_S):
        _stopped([run.process.pid], over, 3.0)


def steps_of(*jumps_ns: int, every_s: float = 1.0) -> Act:
    """The wall clock steps by each in turn."""

    def act(run: Run, over: threading.Event) -> None:
        wait = AFTER_S
        for jump in jumps_ns:
            if over.wait(wait):
                return
            run.step(jump)
            wait = every_s

    return act


_US, _MS, _HOUR = 1_000, 1_000_000, 3_600_000_000_000
ACTS: dict[str, Act] = {
    "none": nothing,
    "busy core": busy_core,
    "worker stopped 0.7 s": worker_stopped(0.7),
    "worker stopped 3 s": worker_stopped(3.0),
    "worker halting": worker_halting,
    "parent stopped 3 s": parent_stopped,
    "clock 80 us": steps_of(*[80 * _US] * 40, every_s=0.1),
    "clock 200 us": steps_of(200 * _US, -200 * _US, 200 * _US),
    "clock 5 ms": steps_of(5 * _MS, -5 * _MS, 5 * _MS, -5 * _MS),
    "clock -40 ms": steps_of(*[-40 * _MS] * 30, every_s=0.1),
    "clock +1 h": steps_of(_HOUR),
    "clock -1 h": steps_of(-_HOUR),
}


@contextlib.contextmanager
def disturbed(run: Run, act: Act) -> Iterator[None]:
    """Disturb the run while the block lasts; nothing is left behind."""
    over = threading.Event()

    def carry_out() -> None:
        if run.wait_for_hold() and not over.is_set():
            act(run, over)

    thread = threading.Thread(target=carry_out)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _stopped(pids: list[int], over: threading.Event, seconds: float) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    over.wait(seconds)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def _spinning(core: int) -> Iterator[None]:
    spinner = subprocess.Popen([sys.executable, "-c", _SPIN.format(_SPUN_S)])
    os.sched_setaffinity(spinner.pid, {core})
    try:
        yield
    finally:
        spinner.kill()
        spinner.wait()


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"streamgauge.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
