"""Processor time a text event: our worker, decoding included, and a C client that reads and decodes nothing.

Both hold the same streams of the same server in C (bench/truth_server.c), one after the other, several times in turn.
Events: what differs between those of an answer (bench.truth_log.FORMS). `same` suits us best, for an event like the
last is not decoded again; `text` is what vLLM sends, `padded` what OpenAI does. What the C client costs hardly differs.
The schedule is that of `truth`, `slack` and `peers`: a request has a cost of its own, which falls on 100 events here.
Counted is the hold alone: from the end of the ramp to the last start, in both. Events are those that the server wrote
meanwhile, by its log. Late: how late our starts were through us.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from bench.found import Bound, Found, at, progress
from bench.load import PROMPT, RAMP_S, compiled, conducted, processor
from bench.truth_log import FORMS, SERVER, answers, serving, written
from streamgauge.sample import AuditTick, Sample

CLIENT = Path(__file__).with_name("epoll_client.c")
MODEL = "sim-t300-i20-n100"
MOST = 1.8
"""Ours may cost so many times what the C client costs."""
TITLE = "Cost: processor time a text event, model {}"
COLUMNS = ("streams", "events", "streamgauge us", "of a core", "late ms p50 / p95", "C us", "of a core", "ratio")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run. `late_ms`: how late our starts were, p50 and p95."""

    us_an_event: float
    core: float
    late_ms: tuple[float, float] = (0.0, 0.0)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 500, 1000], help="held by each client")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), help="of the events")
    parser.add_argument("--model", default=MODEL, help="of the server: its schedule")
    parser.add_argument("--ramp-s", type=float, default=RAMP_S, help="over which the starts are spread")
    parser.add_argument("--rounds", type=int, default=4, help="requests of each stream in one run")
    parser.add_argument("--times", type=int, default=3, help="runs of each client at each level")


def measure(asked: argparse.Namespace) -> Found:
    title = TITLE.format(asked.model)
    rows, bounds = [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        client, server = compiled(CLIENT, Path(folder)), compiled(SERVER, Path(folder))
        if client is None or server is None:
            return Found(title, COLUMNS, [("-",) * len(COLUMNS)], notes=("no C compiler (cc) here: not measured",))
        for streams, form in product(asked.streams, asked.forms):
            ours: list[Cost] = []
            plain: list[Cost] = []
            words = f"{streams} streams, events {form}"
            for turn in range(asked.times):
                progress(f"{words}, run {turn + 1} of {asked.times}")
                ours.append(engine(server, streams, form, asked))
                plain.append(epoll_client(server, client, streams, form, asked))
            ratio = _us(ours) / _us(plain)
            rows.append(row(streams, form, ours, plain, ratio))
            bounds.append(Bound(f"{words}: {ratio:.2f} times the C client, limit {MOST:g}", ratio <= MOST))
    return Found(title, COLUMNS, rows, tuple(bounds))


def row(streams: int, form: str, ours: list[Cost], plain: list[Cost], ratio: float) -> tuple[str, ...]:
    """Medians over the runs, and the ratio of the medians."""
    late = (median(cost.late_ms[which] for cost in ours) for which in (0, 1))
    return (
        str(streams),
        form,
        f"{_us(ours):.1f}",
        f"{median(cost.core for cost in ours):.0%}",
        " / ".join(f"{ms:.2f}" for ms in late),
        f"{_us(plain):.1f}",
        f"{median(cost.core for cost in plain):.0%}",
        f"{ratio:.2f}",
    )


def _us(costs: list[Cost]) -> float:
    return median(cost.us_an_event for cost in costs)


def engine(server: str, streams: int, form: str, asked: argparse.Namespace) -> Cost:
    """One run of ours, the workers' own processor time."""
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        with serving(server, folder / "truth.bin", form=form) as (port, _):
            url, address = f"http://127.0.0.1:{port}/v1/chat/completions", ("127.0.0.1", port)
            requests = streams * asked.rounds
            found = conducted(url, address, folder, "openai-chat", streams, requests, asked.ramp_s, asked.model)
        truth = [answer for _, answer in answers(folder / "truth.bin")]
    held = [record for record in found if isinstance(record, Sample) and record.phase == "hold"]
    ticks = [record for record in found if isinstance(record, AuditTick)]
    used, since, until = processor(ticks, held[0].due_ns, max(sample.due_ns for sample in held))
    late = sorted(sample.late_ns / 1e6 for sample in held)
    us = used * 1e6 / written(truth, since, until)
    return Cost(us, used * 1e9 / (until - since), (at(late, 0.5), at(late, 0.95)))


def epoll_client(server: str, client: str, streams: int, form: str, asked: argparse.Namespace) -> Cost:
    """One run of the C client."""
    body = json.dumps(
        {"model": asked.model, "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    ).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\n"
    request = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        log = Path(made) / "truth.bin"
        with serving(server, log, form=form) as (port, _):
            command = [client, *map(str, (port, streams, streams * asked.rounds, round(asked.ramp_s * 1e3)))]
            done = subprocess.run(command, input=request, check=True, capture_output=True)
        truth = [answer for _, answer in answers(log)]
    told = json.loads(done.stdout)
    since, until = told["from_ns"], told["to_ns"]
    return Cost(told["cpu_ns"] / 1e3 / written(truth, since, until), told["cpu_ns"] / (until - since))
