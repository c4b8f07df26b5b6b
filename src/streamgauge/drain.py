"""Waiting for sockets and taking what came: the part of the loop that runs most often.

Rules: a look takes (stamp, bytes) from every ready socket; nothing is decoded here. What is known of when bytes came:
the kernel's stamp is that of a read's last byte. Nothing of the read had come before `look`, the latest of: the recv
that emptied this socket; the time from which the last look that did not list it looked; where this wait's first look
found nothing at all, that look; and, where the thread then slept, its wake-up less the time it waited for a processor.
A thread that was stopped while it slept (SIGSTOP, a frozen container), or whose virtual processor was held back by its
host, waits without being counted as waiting. So its wake-up tells nothing where the sleep ended by SIGCONT, or later
than it was asked to, or where the stamp of anything that this look took is older than what the wake-up would tell.

Strategy: the kernel keeps the time, so nobody need hurry. Under load (a ready socket every 0.5 ms or oftener in the
last tenth of a second), and with no connection in the making, the next look comes REST after the last that found
something, so that one turn drains several sockets. And what can wait is kept here, PATIENCE at most, so that several
reads of one stream are decoded in one go: a read whose last bytes are the end of an event and of its chunk, for there
at least the last chunk is still to come. So the end of an answer, which makes room for the next request, is not held
back; nor is anything under TLS, nor what the kernel did not stamp. What waits of a stream goes with its first read
that cannot, or when its time has come, some streams at once: while many are decoded nothing is read. Those that have
waited a while go too when the interpreter was at work just now for what could not wait, and once that is dealt with: to
wake it costs more than to have it go on.

There are two of it with the same contract: `Pure` here, and `native/drain.c` where it could be compiled.
"""

from __future__ import annotations

import select
import selectors
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from streamgauge.clock import MS, US, Clock, S, SystemClock
from streamgauge.compiled import part

IN, OUT = 1, 4  # EPOLLIN and EPOLLOUT
READ_SIZE = 65_536
REST = 500 * US
"""Between two looks under load: half of what counts as merged."""
SPAN = 100 * MS
"""Over which load is counted."""
PATIENCE = 500 * MS
"""Who has waited for three quarters of it goes along with one who is handed on, or next after what could not wait."""
MOST = 128
"""So many reads whose time has come are handed on at once, or those of one stream."""
MOST_BYTES, MOST_READS = 65_536, 64
"""What waits of one stream at most; the read that reaches it does not wait. It all goes with the stream's end: where no
event is like the last, that is a millisecond for each stream that ends in the same look."""
MORE_COMES = (b"\n\n\r\n", b"\r\n\r\n\r\n")
"""How an event and its chunk end."""
_SLEPT = 1 * MS  # a shorter wait bounds `look` well enough by itself
_OVERSLEPT = 2 * MS  # a sleep that ends so long after its time, and not for want of a processor, was a stopped thread's
_WAKE_MARGIN = 200 * US  # from data's arrival until the thread is runnable: waking an idle virtual CPU takes this

Reads = tuple[tuple[int, int, int], ...]
"""Of each read: (where it ends in the bytes, CLOCK_REALTIME ns of its last byte or 0, look)."""
Item = tuple[int, int, bytes | int | None, Reads]
"""(descriptor, events, bytes or errno or None where nothing was read, the reads that the bytes came in).

b"" is the end of the stream. Where there are no bytes `Reads` has one entry, which tells `look` alone.
"""


class Drain(Protocol):
    """What the loop needs of it. Descriptors that are registered are read, those watched only told of."""

    patience: int
    """ns that a read waits at most: PATIENCE, or less where someone must know sooner."""

    def register(self, fd: int, mask: int, looked: int = 0) -> None:
        """Look at `fd` from now on. `looked`: when nothing lay there."""
        ...

    def watch(self, fd: int, mask: int) -> None:
        """Tell when there is something with `fd`, and leave the reading to others."""
        ...

    def modify(self, fd: int, mask: int) -> None:
        """Other events of it."""
        ...

    def unregister(self, fd: int) -> None:
        """Forget it."""
        ...

    def wait(self, wake_ns: int | None, eager: bool) -> tuple[list[Item], int]:
        """What came and does not wait, until `wake_ns` at the latest (None: no limit), and when the last look began.

        `eager`: someone's time is not the kernel's just now, so look as soon as anything comes.
        """
        ...

    def held(self, fd: int) -> Item | None:
        """What waits of `fd`, which waits no longer; None where nothing does."""
        ...

    def on_continued(self) -> None:
        """This process was stopped and goes on: the sleep that is under way tells nothing."""
        ...

    def close(self) -> None:
        """Give back what the system lent."""
        ...


class _Selectors:
    """What we use of epoll, by `selectors`, where there is no epoll."""

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()

    def register(self, fd: int, mask: int) -> None:
        self._inner.register(fd, self._events(mask))

    def modify(self, fd: int, mask: int) -> None:
        self._inner.modify(fd, self._events(mask))

    def unregister(self, fd: int) -> None:
        self._inner.unregister(fd)

    def poll(self, timeout: float, _: int) -> list[tuple[int, int]]:
        found = self._inner.select(None if timeout < 0 else timeout)
        return [(key.fd, (IN if got & 1 else 0) | (OUT if got & 2 else 0)) for key, got in found]

    def fileno(self) -> int:
        return -1  # nothing to select on

    def close(self) -> None:
        self._inner.close()

    @staticmethod
    def _events(mask: int) -> int:
        return (1 if mask & IN else 0) | (2 if mask & OUT else 0)


class RunDelay:
    """How long this thread was runnable without running, in ns, as Linux tells in schedstat; None elsewhere."""

    def __init__(self) -> None:
        path = Path("/proc/thread-self/schedstat")
        try:
            self._file = path.open("rb", buffering=0) if sys.platform == "linux" else None
            self.total = self.read()
        except OSError:
            self._file = None
            self.total = None

    def read(self) -> int | None:
        """The running total."""
        if self._file is None:
            return None
        self._file.seek(0)
        return int(self._file.read(64).split()[1])

    def since_last(self) -> int | None:
        """ns since the last call."""
        before, self.total = self.total, self.read()
        return None if before is None or self.total is None else self.total - before

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class _Held:
    """Reads of one descriptor that wait."""

    __slots__ = ("pieces", "reads", "since", "size")

    def __init__(self, since: int) -> None:
        self.since = since
        self.size = 0
        self.pieces: list[bytes] = []
        self.reads: list[tuple[int, int, int]] = []

    def add(self, data: bytes, wall: int, look: int) -> None:
        self.size += len(data)
        self.pieces.append(data)
        self.reads.append((self.size, wall, look))


class Pure:
    """In plain Python. `take` is one read of a descriptor: (bytes, CLOCK_REALTIME ns or 0), as Connection.take."""

    def __init__(self, clock: Clock, take: Callable[[int], tuple[bytes, int]]) -> None:
        self._clock = clock
        self._now = clock.now
        self._take = take
        self._poller = select.epoll() if hasattr(select, "epoll") else _Selectors()
        self._epoll_fd = self._poller.fileno()
        self._looked: dict[int, int] = {}
        """Of each descriptor that is read: the recv that emptied it."""
        self._held: dict[int, _Held] = {}
        """What waits, the longest first."""
        self._size = 0
        self._floor = self._found = self._since = self._now()
        self._counted = 0
        """So many ready sockets since then."""
        self._busy = False
        self._warm = False
        """What could not wait was handed on last time."""
        self._run_delay = RunDelay()
        self._continued = False
        self.patience = PATIENCE

    def __repr__(self) -> str:
        return f"<Pure drain of {self._size} descriptors>"

    def register(self, fd: int, mask: int, looked: int = 0) -> None:
        """Look at `fd` from now on. `looked`: when nothing lay there."""
        self._poller.register(fd, mask)
        self._size += 1
        self._looked[fd] = looked

    def watch(self, fd: int, mask: int) -> None:
        """Tell when there is something with `fd`, and leave the reading to others."""
        self._poller.register(fd, mask)
        self._size += 1

    def modify(self, fd: int, mask: int) -> None:
        """Other events of it."""
        self._poller.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Forget it."""
        self._poller.unregister(fd)
        self._size -= 1
        self._looked.pop(fd, None)
        self._held.pop(fd, None)

    def wait(self, wake_ns: int | None, eager: bool) -> tuple[list[Item], int]:
        """What came and does not wait, and when the last look began."""
        items: list[Item] = []
        if self._warm and self._held:
            woke = self._now()
            self._let_go(woke, items)
        self._warm = False
        while not items:
            limit = self._until(wake_ns)
            until = self._found + REST
            if self._busy and not eager and (limit is None or until < limit):
                self._clock.sleep_until(until)
            ready, woke, surely, likely = self._look(limit)
            if ready:
                self._count(len(ready), woke)
                self._drain(ready, surely, likely, items)
            self._warm = bool(items)
            if self._held and next(iter(self._held.values())).since + self.patience <= woke:
                self._let_go(woke, items)
            if not ready or (wake_ns is not None and woke >= wake_ns):
                break
        return items, woke

    def _count(self, ready: int, at: int) -> None:
        """So many were ready: how busy it is."""
        self._found = at
        self._counted += ready
        if at - self._since >= SPAN:
            self._busy = at - self._since < self._counted * REST
            self._since, self._counted = at, 0

    def _until(self, wake_ns: int | None) -> int | None:
        """Until when to wait, with those that wait already in mind."""
        if not self._held:
            return wake_ns
        until = next(iter(self._held.values())).since + self.patience
        return until if wake_ns is None or until < wake_ns else wake_ns

    def _let_go(self, now: int, items: list[Item]) -> None:
        """Hand on what has waited long enough, or almost, a few streams at a time."""
        given = 0
        while self._held and given < MOST:
            fd, held = next(iter(self._held.items()))
            if held.since + self.patience - self.patience // 4 > now:
                return
            given += len(held.reads)
            items.append(self._hand_on(fd, IN))

    def _hand_on(self, fd: int, mask: int) -> Item:
        held = self._held.pop(fd)
        return fd, mask, b"".join(held.pieces), tuple(held.reads)

    def held(self, fd: int) -> Item | None:
        """What waits of `fd`, which waits no longer."""
        return self._hand_on(fd, IN) if fd in self._held else None

    def _drain(self, ready: list[tuple[int, int]], surely: int, likely: int, items: list[Item]) -> None:
        """One read of each ready descriptor, which waits or goes to `items`, once every stamp is known."""
        found = [(fd, mask, *self._take_one(fd, mask, items)) for fd, mask in ready]
        floor, oldest = likely, min((wall for _, _, data, wall, _ in found if data and wall), default=None)
        if likely != surely and oldest is not None:
            before = self._now()
            if oldest - self._clock.wall() + before < likely:
                floor = surely
        for fd, mask, data, wall, looked in found:
            if data is None:
                items.append((fd, mask, None, ((0, 0, floor),)))
            elif data:
                self._settle(fd, mask, data, wall, max(looked, floor), items)

    def _take_one(self, fd: int, mask: int, items: list[Item]) -> tuple[bytes | None, int, int]:
        """(bytes, stamp, the recv that emptied it before): None where there is only something to tell, b"" nothing.

        An end goes to `items`.
        """
        looked = self._looked.get(fd)
        if looked is None or mask == OUT:
            return None, 0, 0
        before = self._now()
        told: bytes | int
        try:
            told, wall = self._take(fd)
        except BlockingIOError:
            return None if mask & OUT else b"", 0, 0
        except OSError as error:
            told, wall = error.errno or 0, 0
        if not told or isinstance(told, int):
            if fd in self._held:
                items.append(self._hand_on(fd, IN))
            items.append((fd, mask, told, ((0, 0, before),)))
            return b"", 0, 0
        if len(told) < READ_SIZE:
            self._looked[fd] = before
        if fd not in self._held:
            self._held[fd] = _Held(before)
        return told, wall, looked

    def _settle(self, fd: int, mask: int, data: bytes, wall: int, look: int, items: list[Item]) -> None:
        """A read waits, or goes to `items` with what waits before it."""
        held = self._held[fd]
        held.add(data, wall, look)
        small = held.size < MOST_BYTES and len(held.reads) < MOST_READS
        if not (self._busy and wall and mask == IN and small and data.endswith(MORE_COMES)):
            items.append(self._hand_on(fd, mask))

    def _look(self, wake_ns: int | None) -> tuple[list[tuple[int, int]], int, int, int]:
        """Ready descriptors, when it woke, and since when all that lies there came: surely, and by the sleep's end.

        Surely: since the last look that did not list it. How long the wait took tells nothing: a thread that was held
        up between two lines looks as if it had slept, and what lay there all along as if it had just come.
        """
        surely, enter = self._floor, self._now()
        self._continued = False
        most = max(self._size, 1)
        self._floor = enter
        ready = self._poller.poll(0, most)
        if ready or (wake_ns is not None and wake_ns <= enter):
            return ready, enter, surely, surely
        self._sleep(None if wake_ns is None else wake_ns - enter)
        self._floor = woke = self._now()
        ready = self._poller.poll(0, most)
        likely = enter
        if woke - enter >= _SLEPT:
            delay = self._run_delay.since_last()
            overslept = wake_ns is not None and woke > wake_ns + (delay or 0) + _OVERSLEPT
            if delay is not None and not self._continued and not overslept:
                likely = max(enter, woke - delay - _WAKE_MARGIN)
        return ready, woke, enter, likely

    def _sleep(self, left: int | None) -> None:
        """Until something comes, or so long.

        epoll's time-outs round up to ms; select on epoll's own descriptor takes the last stretch with us resolution.
        """
        if left is None or left > 3 * MS or not 0 <= self._epoll_fd < 1024:
            self._poller.poll(-1 if left is None else max(left // MS - 1, 1) / 1e3, 1)
        else:
            select.select((self._epoll_fd,), (), (), left / S)

    def on_continued(self) -> None:
        """This process was stopped and goes on: the sleep that is under way tells nothing."""
        self._continued = True

    def close(self) -> None:
        """Give back what the system lent."""
        self._poller.close()
        self._run_delay.close()


def make(clock: Clock, take: Callable[[int], tuple[bytes, int]]) -> Drain:
    """The quickest that this installation has."""
    if part is None:
        return Pure(clock, take)
    of_system = isinstance(clock, SystemClock) and clock.now is SystemClock.now
    made: Drain = part.Drain() if of_system else part.Drain(clock.now, clock.wall)
    return made
