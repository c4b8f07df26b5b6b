"""Readings in time: each probe asked every 5 s by a thread of its own, beside the conductor, into one file.

Rules: nothing here is on the measured path: requests are sent and timed by the workers' processes. A probe that hangs
or fails delays no other one and never the run: its failure is a Reading with `error`, the turns it misses are gaps. A
snapshot (in detail) is taken at the start, every 5 min and at the end; where garbage is collected for it, a plain
reading comes before, so that the plain series has no hole. A disk that fails ends the readings and is told at the end.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamgauge.clock import Clock, S
from streamgauge.errors import StorageError
from streamgauge.probes.contract import TIMEOUT_S, Ask, Asking, ProbeError
from streamgauge.sample import Reading, SampleWriter
from streamgauge.secrets import cut_short
from streamgauge.wild import plain

EVERY_S = 5.0
SNAPSHOT_S = 300.0
LONGEST_ERROR = 400


@dataclass(frozen=True, slots=True)
class Pace:
    """How often is read. `collect`: garbage is to be collected for snapshots, where the probe can ask."""

    every_s: float = EVERY_S
    snapshot_s: float = SNAPSHOT_S
    collect: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe with its name, its clock and the redactor of its words."""

    name: str
    ask: Ask
    clock: Clock
    redact: Callable[[str], str] = str
    collects: bool = False
    """Whether it can ask for garbage to be collected."""

    def read(self, asking: Asking) -> Reading:
        """One reading. A failure of the server is one with `error`; anything else that goes wrong is a bug of ours."""
        began = self.clock.now()
        try:
            seen = self.ask(asking)
        except ProbeError as error:
            took = self.clock.now() - began
            words = cut_short(plain(self.redact(str(error)), LONGEST_ERROR), LONGEST_ERROR)
            return Reading(
                probe=self.name, at_ns=began + took // 2, took_ns=took, snapshot=asking.snapshot, error=words
            )
        took = self.clock.now() - began
        return Reading(
            probe=self.name, instance=plain(self.redact(seen.instance), LONGEST_ERROR),
            at_ns=began + took // 2 if seen.at_ns is None else seen.at_ns, took_ns=took, values=seen.values,
            uptime_s=seen.uptime_s, pid=seen.pid, collected=seen.collected, snapshot=asking.snapshot,
        )  # fmt: skip


class Book:
    """The file that all probes of a run write to."""

    def __init__(self, path: Path | None) -> None:
        self._writer = None if path is None else SampleWriter(path)
        self._lock = threading.Lock()
        self.disk: str | None = None
        """Why it could not be written to its end, where it could not."""
        self.bug: BaseException | None = None
        self.last = True
        """Whether there is to be one more reading at the end."""

    def add(self, reading: Reading) -> None:
        """Write it through; what comes after the end is nobody's."""
        with self._lock:
            if self._writer is None:
                return
            try:
                self._writer.add(reading)
                self._writer.flush()
            except StorageError as error:
                self.disk, self._writer = str(error), None

    def close(self) -> None:
        """The end."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
            self._writer = None


@contextlib.contextmanager
def watching(probes: Sequence[Probe], path: Path, pace: Pace | None = None) -> Iterator[Book]:
    """Read every probe into `path` while the block runs, and once more at its end, in detail.

    A bug of a probe is raised at the end. StorageError where the file cannot be made. Without probes there is none.
    """
    book, over, pace = Book(path if probes else None), threading.Event(), pace or Pace()

    def follow(probe: Probe) -> None:
        try:
            _follow(probe, book, over, pace)
        except BaseException as error:  # whatever it is would end with its thread and unheard: it is raised below
            book.bug = book.bug or error

    threads = [threading.Thread(target=follow, args=(one,), daemon=True, name=f"probe {one.name}") for one in probes]
    for thread in threads:
        thread.start()
    try:
        yield book
    finally:
        over.set()
        for thread in threads:
            thread.join(2 * TIMEOUT_S + 1)  # the last reading; one that hangs in a resolver ends with the process
        book.close()
    if book.bug is not None:
        raise book.bug


def _follow(probe: Probe, book: Book, over: threading.Event, pace: Pace) -> None:
    """One probe from the start to the end."""
    clock = probe.clock
    every, began = round(pace.every_s * S), clock.now()
    snapshots = 0
    while not over.is_set():
        since = clock.now() - began
        detailed = since >= snapshots * pace.snapshot_s * S
        if detailed:
            snapshots = int(since // (pace.snapshot_s * S)) + 1
        _read(probe, book, pace, detailed=detailed)
        left = every - (clock.now() - began) % every
        over.wait(left / S)
    if book.last:
        _read(probe, book, pace, detailed=True)


def _read(probe: Probe, book: Book, pace: Pace, *, detailed: bool) -> None:
    collect = detailed and pace.collect and probe.collects
    if collect:
        book.add(probe.read(Asking()))
    book.add(probe.read(Asking(snapshot=detailed, collect=collect)))
