"""A simulator for a test or a script: `with start(faults=["stall=0.1"]) as sim: ... sim.url ... sim.log()`.

The server is a process of its own, so that its work does not disturb the measuring one. It ends with the `with` block,
and with this process, however that ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from streamgauge.clock import Clock, S, SystemClock
from streamgauge.errors import UsageError
from streamgauge.simulator.options import Options
from streamgauge.simulator.truth import Record, read
from streamgauge.simulator.voices import APIS


class Simulator:
    """A running simulator. Made by `start`; a context manager that stops it."""

    def __init__(
        self, options: Options, process: subprocess.Popen[bytes], port: int, clock: Clock, *, temporary: bool
    ) -> None:
        self._temporary = temporary
        self._process = process
        self._clock = clock
        self._records: list[Record] | None = None
        self._log = options.log
        self.port = port
        host = "127.0.0.1" if options.host in ("localhost", "all") else options.host
        self.host = host
        self.url = f"{'http' if options.tls_cert is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"

    def __repr__(self) -> str:
        state = "running" if self._process.poll() is None else f"ended {self._process.returncode}"
        return f"Simulator({self.url}, pid={self.pid}, {state})"

    def __enter__(self) -> Simulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def endpoint(self, dialect: str, model: str = "gemini-2.0-flash") -> str:
        """The full url of a dialect's default path; `model` is part of Gemini's."""
        if dialect not in APIS:
            raise UsageError(f"dialect {dialect!r} is unknown to the simulator; it speaks {', '.join(APIS)}")
        return self.url + APIS[dialect].paths[0].replace("{model}", model)

    def log(self, at_least: int = 0, within_s: float = 15.0) -> list[Record]:
        """The truth so far, in the order in which the requests ended.

        A request's record is there at most a second after its end; `at_least` waits for so many records, and raises
        TimeoutError where they do not come `within_s`.
        """
        if self._records is not None:
            return self._records
        if self._log is None:
            raise UsageError("this simulator writes no log; start it with log=True or a path")
        until = self._clock.now() + round(within_s * S)
        while True:
            records = read(self._log)
            if len(records) >= at_least:
                return records
            if self._clock.now() >= until:
                raise TimeoutError(f"{len(records)} of {at_least} requests are in the truth log after {within_s} s")
            self._clock.sleep_until(self._clock.now() + S // 50)

    def stop(self) -> int:
        """End the server and keep its log in memory; the exit code. A second call changes nothing."""
        if self._records is not None:
            return self._process.returncode
        if self._process.poll() is None:
            self._process.terminate()
        try:
            _, said = self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, said = self._process.communicate()
        self._records = [] if self._log is None else read(self._log)
        if self._temporary and self._log is not None:
            Path(self._log).unlink(missing_ok=True)
        if self._process.returncode > 0:  # killed by a signal is the caller's doing; this is ours
            raise RuntimeError(f"the simulator failed: {said.decode(errors='replace').strip()}")
        return self._process.returncode


def start(
    *, log: bool | str | Path = True, faults: Sequence[str] = (), clock: Clock | None = None, **options: object
) -> Simulator:
    """Start a simulator and wait until it listens.

    `options` are the fields of `Options` (port, seed, capacity, gzip, tls_cert, ...). With `log=True` the truth goes to
    a temporary file that is read and removed at the end. UsageError for options that cannot work.
    """
    temporary = log is True
    try:
        wanted = Options(faults=tuple(faults), **options)  # type: ignore[arg-type]  # names and values are checked here
    except TypeError as e:
        raise UsageError(f"simulator option: {e}") from None
    wanted.check()
    path = _temporary_file() if temporary else (str(log) if log else None)
    wanted = replace(wanted, log=path, parent_pid=os.getpid())
    command = [sys.executable, "-m", "streamgauge.simulator", wanted.to_json()]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, said = process.communicate()
        if temporary and path is not None:
            Path(path).unlink(missing_ok=True)
        raise UsageError(f"the simulator did not start: {said.decode(errors='replace').strip()}")
    port: int = json.loads(line)["port"]
    return Simulator(wanted, process, port, SystemClock() if clock is None else clock, temporary=temporary)


def _temporary_file() -> str:
    """An empty file for a log."""
    descriptor, path = tempfile.mkstemp(prefix="streamgauge-sim-", suffix=".jsonl")
    os.close(descriptor)
    return path
