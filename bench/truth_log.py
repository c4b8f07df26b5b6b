"""The server in C that is on time (bench/truth_server.c): started, ended, and what it wrote down of each answer."""

from __future__ import annotations

import signal
import struct
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER = Path(__file__).with_name("truth_server.c")
_HEAD = struct.Struct("<16sQQQII")
_WRITE = struct.Struct("<QQ")
_SPOILED = 3
FORMS = ("same", "text", "padded")
"""Of the server's events (`--vary` of truth_server.c): all bytes the same, which suits us best, for an event like the
one before is counted without decoding it; another text in each, as vLLM; random padding in each as well, as OpenAI."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as the server wrote it: (before, after) of each write, ns."""

    accepted_ns: int
    request_ns: int
    late_ns: int
    """Most that any write was late."""
    writes: tuple[tuple[int, int], ...]
    left: bool = False
    """Whether the reader left before the end; `writes` are those until then."""

    @property
    def ttft_ns(self) -> int:
        """From the whole request to just before the first write."""
        return self.writes[0][0] - self.request_ns


@contextmanager
def serving(
    server: str, log: Path, *how: str, whole: bool = True, fair: bool = False, form: str = "same"
) -> Iterator[tuple[int, str]]:
    """(port, how it is scheduled: fifo or fair). The log is written at the end of the block.

    `how`: more of its options. `whole`: every answer must have been taken to its end, or RuntimeError. `fair`: it does
    not ask for real-time scheduling. `form`: one of FORMS.
    """
    varied = () if form == "same" else ("--vary", form)
    words = [server, str(log), *(() if fair else ("--fifo",)), *varied, *how]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        try:
            yield int(running.stdout.readline()), running.stdout.readline().strip()
        finally:
            running.send_signal(signal.SIGTERM)
            status = running.wait(30)
    if status == _SPOILED and whole:
        raise RuntimeError("the server had answers that were left or not taken in time: the log is not whole")
    if status not in (0, _SPOILED):
        raise RuntimeError(f"the server ended with status {status}")


def answers(path: Path) -> Iterator[tuple[str, Answer]]:
    """(trace id, answer) of each, in order of their ends. The format stands at the head of truth_server.c."""
    data, place = path.read_bytes(), 0
    while place < len(data):
        trace, accepted, request, late, count, left = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        end = place + count * _WRITE.size
        writes = tuple(_WRITE.iter_unpack(data[place:end]))
        yield trace.hex(), Answer(accepted, request, late, writes, bool(left))
        place = end


def read_log(path: Path) -> dict[str, Answer]:
    """Trace id -> answer."""
    return dict(answers(path))


def written(found: Iterable[Answer], from_ns: int, to_ns: int) -> int:
    """Text events that the server wrote in the span: every write but an answer's last, which holds none."""
    return sum(from_ns <= before <= to_ns for answer in found for before, _ in answer.writes[:-1])


def held_open(found: Iterable[Answer], from_ns: int, to_ns: int) -> float:
    """Streams open at a time, from whole request to last write: the mean over the span."""
    spans = [(answer.request_ns, answer.writes[-1][1]) for answer in found if answer.writes]
    return sum(max(min(end, to_ns) - max(begin, from_ns), 0) for begin, end in spans) / (to_ns - from_ns)
