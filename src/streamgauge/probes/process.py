"""The kind `process`: a process of this machine and all its children, by psutil.

Strategy: the roots are found once and again when one of them is gone: the given pid, whoever listens on the port, or
whoever matches the pattern, less those that descend from another of them. Their trees are summed. A root that is gone
and another one in its place is a restart.

Rules: RSS counts pages that processes share once for each; PSS and USS do not, but the system walks every page for
them, so they are read in snapshots only. Processor time includes that of children that ended and were waited for.
A process that ends while it is looked at is left out. What the system does not let us see is left out as a whole: a
part of a sum would look like a fall.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import psutil

from streamgauge.clock import Clock
from streamgauge.probes.contract import Ask, Asking, Gauges, OfProcess, ProbeError

MOST_CONNECTIONS = 2_000
"""With more descriptors than this, connections are counted in snapshots only: each one is a line to be parsed."""
_WORKER = "streamgauge.worker"


def process(source: OfProcess, clock: Clock) -> Ask:
    """A probe of `source`."""
    return _Watched(source, clock).ask


class _Watched:
    """The roots as they were last seen."""

    def __init__(self, source: OfProcess, clock: Clock) -> None:
        self._source, self._clock = source, clock
        self._roots: list[psutil.Process] = []
        self._restarts = 0

    def ask(self, asking: Asking) -> Gauges:
        """Sum the trees."""
        try:
            return self._look(asking)
        except psutil.NoSuchProcess:
            raise ProbeError(f"{self._source.shown}: it ended just now") from None
        except (psutil.Error, OSError) as error:
            raise ProbeError(f"{self._source.shown}: the system does not tell: {error}") from None

    def _look(self, asking: Asking) -> Gauges:
        if asking.snapshot or not self._roots or not all(map(_alive, self._roots)):
            self._find()
        first = min(self._roots, key=lambda root: root.create_time())
        tree = _trees(self._roots)
        values = _summed(tree, detailed=asking.snapshot)
        values["restarts"] = float(self._restarts)
        values["processes"] = float(len(tree))
        others = len(tree) - 1
        return Gauges(
            values,
            uptime_s=max(self._clock.wall() / 1e9 - first.create_time(), 0.0),
            pid=first.pid,
            who=f"pid {first.pid}, {_command(first)}" + (f", and {others} more of its family" if others else ""),
        )

    def _find(self) -> None:
        found = _topmost(_matching(self._source))
        if self._source.pid is not None and self._roots:  # its number may be another's by now
            found = [root for root in self._roots if _alive(root)]
        if not found:
            raise ProbeError(_not_found(self._source))
        gone = set(self._roots) - set(found)
        if gone and set(found) - set(self._roots):
            self._restarts += 1
        self._roots = found


def _matching(source: OfProcess) -> list[psutil.Process]:
    """The processes that the source names, children among them."""
    try:
        if source.pid is not None:
            return [psutil.Process(source.pid)]
        if source.port is not None:
            return _processes(_listeners(source.port))
        return _processes(_like(source.command or ""))
    except psutil.NoSuchProcess:
        return []
    except psutil.AccessDenied:
        raise ProbeError(
            f"{source.shown}: this system does not tell without more rights; name it by pid, or run as root"
        ) from None


def _listeners(port: int) -> set[int]:
    """The pids that listen on a TCP port.

    psutil names one process for each socket; one that is shared is its parents' and its siblings' as well.
    """
    there = [one for one in psutil.net_connections("tcp") if _listens(one, port)]
    if there and all(one.pid is None for one in there):
        raise ProbeError(f"port {port} is another user's, whose processes are hidden; name it by pid, or run as root")
    found = {one.pid for one in there if one.pid is not None}
    for one in _processes(found):
        try:
            near = [*one.parents(), *(parent.children() if (parent := one.parent()) else ())]
        except psutil.Error:
            continue
        found |= {other.pid for other in near if _holds(other, port)}
    return found


def _listens(one: Any, port: int) -> bool:
    return bool(one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port)


def _holds(one: psutil.Process, port: int) -> bool:
    try:
        return any(_listens(conn, port) for conn in one.net_connections("tcp"))
    except psutil.Error:
        return False


def _like(pattern: str) -> set[int]:
    """The pids whose command line holds the pattern, less this program, what started it, and its workers."""
    here = psutil.Process()
    ours = {here.pid, *(parent.pid for parent in here.parents())}
    sought = re.compile(pattern)
    found = set()
    for one in psutil.process_iter(["cmdline"]):
        line = " ".join(one.info["cmdline"] or ())
        if one.pid not in ours and _WORKER not in line and sought.search(line):
            found.add(one.pid)
    return found


def _alive(one: psutil.Process) -> bool:
    """Whether it runs; one that ended and was not waited for yet does not."""
    try:
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _processes(pids: Iterable[int]) -> list[psutil.Process]:
    found = []
    for pid in sorted(pids):
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return found


def _topmost(found: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are nobody's child among them, and no zombies."""
    pids = {one.pid for one in found}
    top = []
    for one in found:
        try:
            if _alive(one) and not pids & {parent.pid for parent in one.parents()}:
                top.append(one)
        except psutil.NoSuchProcess:
            continue
    return top


def _not_found(source: OfProcess) -> str:
    if source.pid is not None:
        return f"process {source.pid} is gone; a probe by port or command finds the next one"
    if source.port is not None:
        return (
            f"nothing listens on port {source.port} here; is it another machine or a container? Then add a json probe"
        )
    return f"no process has {source.command!r} in its command line (ps -ef shows them)"


def _command(one: psutil.Process) -> str:
    """The beginning of its command line, for a person."""
    try:
        words = [word.rpartition("/")[2] for word in one.cmdline()[:3]]
    except psutil.Error:
        words = []
    return " ".join(" ".join(words).split())[:60] or one.name()


def _trees(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for root in roots:
        found[root.pid] = root
        try:
            found.update((child.pid, child) for child in root.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def _summed(tree: Iterable[psutil.Process], *, detailed: bool) -> dict[str, float]:
    """Each gauge over the tree; those that the system hid for one process are left out."""
    sums: dict[str, float] = {}
    hidden: set[str] = set()
    for one in tree:
        try:
            with one.oneshot():
                for name, read in (_DETAILED if detailed else _USUAL).items():
                    try:
                        value = read(one)
                    except (psutil.AccessDenied, AttributeError, NotImplementedError):
                        value = None
                    if value is None:
                        hidden.add(name)
                    else:
                        sums[name] = sums.get(name, 0.0) + value
        except psutil.NoSuchProcess:  # its part so far is that of a process that was still there
            continue
    kept = {name: value for name, value in sums.items() if name not in hidden}
    if "rss" not in kept:
        raise ProbeError("its memory cannot be read; run as the same user, or as root")
    return kept


def _processor_s(one: psutil.Process) -> float:
    times = one.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _connections(one: psutil.Process) -> float:
    return float(sum(conn.status == psutil.CONN_ESTABLISHED for conn in one.net_connections("tcp")))


def _few_connections(one: psutil.Process) -> float | None:
    return _connections(one) if one.num_fds() <= MOST_CONNECTIONS else None


_USUAL: dict[str, Callable[[psutil.Process], float | None]] = {
    "rss": lambda one: float(one.memory_info().rss),
    "threads": lambda one: float(one.num_threads()),
    "cpu_s": _processor_s,
    "descriptors": lambda one: float(one.num_fds()),
    "connections": _few_connections,
}
_DETAILED: dict[str, Callable[[psutil.Process], float | None]] = {
    **_USUAL,
    "connections": _connections,
    "pss": lambda one: float(one.memory_full_info().pss),
    "uss": lambda one: float(one.memory_full_info().uss),
}
