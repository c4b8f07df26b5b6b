"""Processor time a text event: our worker, decoding included, and a C client that reads and decodes nothing.

Both hold the same streams of the same simulator, one after the other, several times in turn. Counted is the hold alone:
from the end of the ramp to the last start, in both. Events are those that the simulator sent meanwhile, by its log.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.found import Found, progress
from bench.load import MODEL, PROMPT, RAMP_S, compiled, processor, run, text_events
from streamgauge.simulator import start

CLIENT = Path(__file__).with_name("epoll_client.c")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run."""

    us_an_event: float
    core: float


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--model", default=MODEL, help="of the simulator: its schedule")
    parser.add_argument("--ramp-s", type=float, default=RAMP_S, help="over which the starts are spread")
    parser.add_argument("--rounds", type=int, default=6, help="requests of each stream in one run")
    parser.add_argument("--times", type=int, default=2, help="runs of each client at each level")


def measure(asked: argparse.Namespace) -> Found:
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        client = compiled(CLIENT, Path(folder))
        for streams in asked.streams:
            ours: list[Cost] = []
            plain: list[Cost] = []
            for turn in range(asked.times):
                progress(f"{streams} streams, run {turn + 1} of {asked.times}")
                ours.append(engine(streams, streams * asked.rounds, asked))
                if client is not None:
                    plain.append(epoll_client(client, streams, streams * asked.rounds, asked))
            rows.append(row(streams, ours, plain))
    return Found(
        f"Cost: processor time a text event, model {asked.model}",
        ("streams", "streamgauge us", "of a core", "C us", "of a core", "ratio"),
        rows,
        notes=() if client is not None else ("no C compiler (cc) here: nothing to compare with",),
    )


def row(streams: int, ours: list[Cost], plain: list[Cost]) -> tuple[str, ...]:
    """Medians over the runs, and the ratio of the medians."""
    us = median(cost.us_an_event for cost in ours)
    told = [str(streams), f"{us:.1f}", f"{median(cost.core for cost in ours):.0%}"]
    if not plain:
        return (*told, "-", "-", "-")
    least = median(cost.us_an_event for cost in plain)
    return (*told, f"{least:.1f}", f"{median(cost.core for cost in plain):.0%}", f"{us / least:.1f}")


def engine(streams: int, requests: int, asked: argparse.Namespace) -> Cost:
    """One run of ours, the workers' own processor time."""
    loaded = run("openai-chat", streams, requests, model=asked.model, ramp_s=asked.ramp_s)
    held = loaded.held
    used, since, until = processor(loaded.ticks, held[0].due_ns, max(sample.due_ns for sample in held))
    return Cost(used * 1e6 / text_events(loaded.truth, since, until), used * 1e9 / (until - since))


def epoll_client(client: str, streams: int, requests: int, asked: argparse.Namespace) -> Cost:
    """One run of the C client."""
    body = json.dumps(
        {"model": asked.model, "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    ).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\n"
    request = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    with start() as sim:
        command = [client, *map(str, (sim.port, streams, requests, round(asked.ramp_s * 1e3)))]
        done = subprocess.run(command, input=request, check=True, capture_output=True)
        sim.stop()
        told = json.loads(done.stdout)
        since, until = told["from_ns"], told["to_ns"]
        return Cost(told["cpu_ns"] / 1e3 / text_events(sim.log(), since, until), told["cpu_ns"] / (until - since))
