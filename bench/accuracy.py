"""What the engine measures against what the simulator did, by its own log, stream for stream.

Error of ttft_service: ours less the time from the server's whole request to just before its first true send; it holds
the loopback and the server's pick-up of the request as well. Stamp: how far the first token's stamp lies behind that
send, which is ours alone; inside: not behind its end. ITL: our median gap less the true one, over all gaps of requests
whose sends were read one by one. Late starts: from a slot's free to its next start, in which the last Sample was made.
"""

from __future__ import annotations

import argparse
from array import array

from bench.found import Bound, Found, at, progress
from bench.load import MODEL, RAMP_S, Loaded, processor, run, text_events
from streamgauge.sample import Sample
from streamgauge.simulator import Record, Sent

LIMIT_MS = 1.0
HELD_AT = 100
"""Streams up to which the limit holds."""
DIALECTS = ("openai-chat", "anthropic", "gemini", "ai-sdk")
COLUMNS = (
    "dialect", "streams", "requests", "error ms p50 / p95 / p99 / max", "stamp ms p95 / p99", "inside",
    "ITL p50 error us", "slack p99 us", "merged", "late ms p50 / p95", "of a core", "us an event",
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 500], help="levels, each with openai-chat")
    parser.add_argument("--dialects", nargs="*", choices=DIALECTS, default=DIALECTS[1:], help="at the first level")
    parser.add_argument("--model", default=MODEL, help="of the simulator: its schedule")
    parser.add_argument("--ramp-s", type=float, default=RAMP_S, help="over which the starts are spread")
    parser.add_argument("--rounds", type=int, default=8, help="requests of each stream")


def measure(asked: argparse.Namespace) -> Found:
    cases = [(DIALECTS[0], asked.streams[0]), *((name, asked.streams[0]) for name in asked.dialects)]
    cases += [(DIALECTS[0], level) for level in asked.streams[1:]]
    rows, bounds = [], []
    for dialect, streams in cases:
        progress(f"{dialect}, {streams} streams")
        loaded = run(dialect, streams, streams * asked.rounds, model=asked.model, ramp_s=asked.ramp_s)
        errors = sorted(error_ms(loaded))
        rows.append((dialect, str(streams), str(len(errors)), *row(loaded, errors)))
        if streams <= HELD_AT:
            p95 = at(errors, 0.95)
            bounds.append(Bound(f"{dialect} at {streams} streams: p95 {p95:.2f} ms, limit {LIMIT_MS:g} ms",
                                p95 <= LIMIT_MS))  # fmt: skip
    return Found(f"Accuracy: ttft_service against the truth log, model {asked.model}", COLUMNS, rows, tuple(bounds))


def row(loaded: Loaded, errors: list[float]) -> list[str]:
    """The figures of one run."""
    held, pairs = loaded.held, matched(loaded)
    sends = [first_send(record) for _, record in pairs]
    stamps = sorted((first_token(s) - send.before_ns) / 1e6 for s, send in zip(held, sends, strict=True))
    inside = sum(send.before_ns <= first_token(s) <= send.after_ns for s, send in zip(held, sends, strict=True))
    ours, true = gaps_us(pairs)
    slack = sorted(sample.first_token_slack_ns / 1e3 for sample in held)
    late = sorted(sample.late_ns / 1e6 for sample in held)
    events = sum(sample.text_events for sample in held)
    used, since, until = processor(loaded.ticks, held[0].due_ns, max(sample.due_ns for sample in held))
    return [
        listed(at(errors, 0.5), at(errors, 0.95), at(errors, 0.99), errors[-1]),
        listed(at(stamps, 0.95), at(stamps, 0.99)),
        f"{inside / len(pairs):.1%}",
        f"{at(ours, 0.5) - at(true, 0.5):+.0f}" if ours else "-",
        f"{at(slack, 0.99):.0f}",
        f"{sum(sample.merged_events for sample in held) / events:.2%}",
        listed(at(late, 0.5), at(late, 0.95)),
        f"{used / (until - since) * 1e9:.0%}",
        f"{used * 1e6 / text_events(loaded.truth, since, until):.0f}",
    ]


def matched(loaded: Loaded) -> list[tuple[Sample, Record]]:
    """Each judged Sample with its record. Every one has one, ended well, with as many text events."""
    truth = {record.trace_id: record for record in loaded.truth}
    pairs = [(sample, truth[sample.id]) for sample in loaded.held]
    wrong = [s for s, record in pairs if s.outcome != record.outcome or s.text_events != record.text_events]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(pairs)} Samples differ from the truth log: {wrong[0]}")
    return pairs


def error_ms(loaded: Loaded) -> list[float]:
    """Our ttft_service less the true one, of each request."""
    found = []
    for sample, record in matched(loaded):
        assert sample.sent_ns is not None
        assert record.ttft_ns is not None
        found.append((first_token(sample) - sample.sent_ns - record.ttft_ns) / 1e6)
    return found


def first_token(sample: Sample) -> int:
    """Its stamp, ns."""
    assert sample.first_token_ns is not None
    return sample.first_token_ns


def first_send(record: Record) -> Sent:
    """The true send of its first text."""
    send = record.first("text")
    assert send is not None
    return send


def listed(*values: float) -> str:
    """Several figures in one cell."""
    return " / ".join(f"{value:.2f}" for value in values)


def gaps_us(pairs: list[tuple[Sample, Record]]) -> tuple[list[float], list[float]]:
    """(ours, true), each ascending, of the requests that have as many of one as of the other."""
    ours: list[float] = []
    true: list[float] = []
    for sample, record in pairs:
        found, meant = array("I", sample.gaps), record.text_gaps_ns
        if len(found) == len(meant):
            ours += found
            true += [gap / 1e3 for gap in meant]
    return sorted(ours), sorted(true)
