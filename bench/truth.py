"""What the engine measures against a server in C that is on time (bench/truth_server.c), by that server's own log.

The simulator is Python, and on a slow or busy machine most of the error against its log is the wait until it reads the
request. This server has a priority of its own where the system allows it, and notes the clock before and after each
write, so what is left is ours. Error: ttft_service less the time from the whole request to just before the first write.
Pick-up: from our `sent` to the server's whole request; it is part of the error. Exact: first tokens whose stamp claims
no slack. Beyond: how far such a stamp lies outside the (before, after) of its write, 0 inside. Slack holds: of the
others, those whose write lies in what the slack allows.
"""

from __future__ import annotations

import argparse
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.found import Bound, Found, at, progress
from bench.load import RAMP_S, compiled, conducted, processor
from streamgauge.sample import AuditTick, Sample, gaps_us

SERVER = Path(__file__).with_name("truth_server.c")
MODEL = "sim-t300-i20-n100"
LIMIT_MS = 1.0
HELD_AT = 100
"""Streams up to which the error is bounded."""
BEYOND_MS = (0.2, 0.5, 1.0)
"""What a stamp may lie beyond its write, at p50, p95 and p99, at every level."""
COLUMNS = (
    "streams", "open", "requests", "error ms p50 / p95 / p99 / max", "pick-up ms p50 / p95", "exact",
    "beyond ms p50 / p95 / p99", "slack holds", "ITL p50 ms ours / true", "merged", "us an event",
    "of a core", "server late ms",
)  # fmt: skip
_HEAD = struct.Struct("<16sQQQII")
_WRITE = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as the server wrote it: (before, after) of each write, ns."""

    accepted_ns: int
    request_ns: int
    late_ns: int
    """Most that any write was late."""
    writes: tuple[tuple[int, int], ...]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 500, 1000])
    parser.add_argument("--model", default=MODEL, help="its schedule")
    parser.add_argument("--ramp-s", type=float, default=RAMP_S, help="over which the starts are spread")
    parser.add_argument("--rounds", type=int, default=5, help="requests of each stream")


def measure(asked: argparse.Namespace) -> Found:
    title = f"Accuracy against a server in C, model {asked.model}"
    rows, bounds, notes = [], [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        server = compiled(SERVER, Path(made))
        if server is None:
            return Found(title, COLUMNS, [("-",) * len(COLUMNS)], notes=("no C compiler (cc) here: not measured",))
        for streams in asked.streams:
            progress(f"{streams} streams")
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                told, own, note = one(server, Path(folder), streams, asked)
            rows.append(told)
            bounds += own
            notes.append(f"{streams} streams: {note}")
    return Found(title, COLUMNS, rows, tuple(bounds), tuple(dict.fromkeys(notes)))


def one(server: str, folder: Path, streams: int, asked: argparse.Namespace) -> tuple[tuple[str, ...], list[Bound], str]:
    """One level: its row, its bounds, how the server ran."""
    with serving(server, folder / "truth.bin") as (port, scheduled):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        requests = streams * asked.rounds
        found = conducted(url, ("127.0.0.1", port), folder, "openai-chat", streams, requests, asked.ramp_s, asked.model)
    truth = read_log(folder / "truth.bin")
    held = [record for record in found if isinstance(record, Sample) and record.phase == "hold"]
    ticks = [record for record in found if isinstance(record, AuditTick)]
    pairs = [(sample, truth[sample.id]) for sample in held]
    errors = sorted((_first(s) - _sent(s) - (a.writes[0][0] - a.request_ns)) / 1e6 for s, a in pairs)
    picked_up = sorted((a.request_ns - _sent(s)) / 1e6 for s, a in pairs)
    exact = [(s, *a.writes[0]) for s, a in pairs if s.first_token_slack_ns == 0]
    wide = [(s, *a.writes[0]) for s, a in pairs if s.first_token_slack_ns > 0]
    beyond = sorted(max(before - _first(s), _first(s) - after, 0) / 1e6 for s, before, after in exact)
    allowed = [before <= _first(s) and after > _first(s) - s.first_token_slack_ns for s, before, after in wide]
    ours = sorted(gap / 1e3 for s, _ in pairs for gap in gaps_us(s.gaps))
    true = sorted((b[0] - a[0]) / 1e6 for _, one in pairs for a, b in pairwise(one.writes[:-1]))
    begin, end = held[0].due_ns, max(sample.due_ns for sample in held)
    used, since, until = processor(ticks, begin, end)
    events = sum(since <= before <= until for a in truth.values() for before, _ in a.writes[:-1])
    ends = [(_sent(s), s.end_ns) for s in found if isinstance(s, Sample)]
    open_ns = sum(max(min(until, end) - max(since, begin), 0) for since, until in ends)
    row = (
        str(streams),
        f"{open_ns / (end - begin):.0f}",
        str(len(held)),
        _listed(at(errors, 0.5), at(errors, 0.95), at(errors, 0.99), errors[-1]),
        _listed(at(picked_up, 0.5), at(picked_up, 0.95)),
        f"{len(exact) / len(pairs):.1%}",
        _listed(*(at(beyond, q) for q in (0.5, 0.95, 0.99))) if beyond else "-",
        f"{sum(allowed) / len(allowed):.1%}" if allowed else "-",
        _listed(at(ours, 0.5), at(true, 0.5)),
        f"{sum(sample.merged_events for sample in held) / sum(sample.text_events for sample in held):.2%}",
        f"{used * 1e6 / events:.0f}",
        f"{used * 1e9 / (until - since):.0%}",
        _listed(max(a.late_ns for a in truth.values()) / 1e6),
    )
    return row, _bounds(streams, errors, beyond, allowed), f"the server's scheduling: {scheduled}"


def _bounds(streams: int, errors: list[float], beyond: list[float], allowed: list[bool]) -> list[Bound]:
    found = []
    if streams <= HELD_AT:
        p95 = at(errors, 0.95)
        found.append(Bound(f"error p95 {p95:.2f} ms, limit {LIMIT_MS:g} ms", p95 <= LIMIT_MS))
    if beyond:
        values = [at(beyond, q) for q in (0.5, 0.95, 0.99)]
        words = f"exact stamps beyond their write by {_listed(*values)} ms, limits {_listed(*BEYOND_MS)}"
        found.append(Bound(words, all(value <= limit for value, limit in zip(values, BEYOND_MS, strict=True))))
    if allowed:
        wrong = len(allowed) - sum(allowed)
        words = f"{wrong} of {len(allowed)} writes outside what the slack allows, limit 1 in 1,000"
        found.append(Bound(words, wrong <= len(allowed) / 1_000))
    return [Bound(f"{streams} streams: {bound.words}", bound.holds) for bound in found]


def _first(sample: Sample) -> int:
    assert sample.first_token_ns is not None
    return sample.first_token_ns


def _sent(sample: Sample) -> int:
    assert sample.sent_ns is not None
    return sample.sent_ns


def _listed(*values: float) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


@contextmanager
def serving(server: str, log: Path) -> Iterator[tuple[int, str]]:
    """(port, how it is scheduled: fifo or fair). The log is written at the end of the block."""
    with subprocess.Popen([server, str(log), "--fifo"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield int(running.stdout.readline()), running.stdout.readline().strip()
        finally:
            running.send_signal(signal.SIGTERM)
            left = running.wait(20)
    if left:
        raise RuntimeError("the server had answers that were left or not taken in time: the log is not whole")


def read_log(path: Path) -> dict[str, Answer]:
    """Trace id -> answer."""
    return dict(answers(path))


def answers(path: Path) -> Iterator[tuple[str, Answer]]:
    """(trace id, answer) of each that ended. The format stands at the head of truth_server.c."""
    data, place = path.read_bytes(), 0
    while place < len(data):
        trace, accepted, request, late, count, _ = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        end = place + count * _WRITE.size
        yield trace.hex(), Answer(accepted, request, late, tuple(_WRITE.iter_unpack(data[place:end])))
        place = end
