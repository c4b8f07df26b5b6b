"""Open loop against a server in C: whether starts keep to their times, and where the wait goes when they cannot.

Three runs. On time: many short streams a second. Slowed: the worker is stopped again and again, so that its own starts
are late. Queued: the server takes a new connection only now and then and closes it after its answer, so that connects
wait. Truth is the plan (when each arrival is due, computed anew) and the server's log (when it wrote). Late: our start
after the due time, through us. Control: a C program beside the first run that is due as often and does nothing but wait
(bench/timer_control.c): what it is late is the machine's doing. Where its p99 is within 1 ms the machine was free, and
ours must be too; where it is not, ours may be 1 ms later than it. Waited: ready to run, and no core was free. A start:
from the worker's beginning with a request to its last byte sent, on a connection that was there. Error: how far our
ttft lies from (just before the server's first write) - due, beyond the slack it claims; service: the same of
ttft_service and our sent. Queued is what the two differ by, due to sent.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import msgspec
import psutil

from bench.found import Bound, Found, at, progress
from bench.load import PROMPT, compiled, processor
from bench.truth_log import SERVER, Answer, read_log, serving
from streamgauge.arrivals import Rate
from streamgauge.client import target_from_url
from streamgauge.clock import S, SystemClock
from streamgauge.journal import Journal
from streamgauge.load import Load
from streamgauge.plan import Lane, Phase
from streamgauge.run import Began, conduct
from streamgauge.sample import AuditTick, Outcome, Sample
from streamgauge.slices import starts_late
from streamgauge.suite.folder import records
from streamgauge.summary import MetricsCollector

CONTROL = Path(__file__).with_name("timer_control.c")
MODEL = "sim-t50-i10-n5"
LATE_MS, ERROR_MS, SHARE_LATE = 1.0, 1.0, 0.05
STOPPED_S, EVERY_S = 0.15, 0.5
ACCEPT_US, BACKLOG = 12_500, 8
QUEUED_RATE, SHORT_S = 100.0, 5.0
COLUMNS = (
    "run", "arrivals", "open", "late ms p50 / p95 / p99 / max", "over 50 ms late", "a start us p50 / p95",
    "ttft ms p50 / p95", "ttft_service ms p50 / p95", "queued ms p50 / p95", "slack ms p95", "error ms p95",
    "service error ms p95", "of a core", "waited for one",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    """One run: its Samples in order of due, what the server did, when the phase began, the worker's wait for a core."""

    samples: list[Sample]
    ticks: list[AuditTick]
    truth: dict[str, Answer]
    began_ns: int
    waited: float
    """Share of the time in which a worker was ready and had no core."""
    control_ms: tuple[float, ...] = ()
    """How late the control was, where there was one: p50, p95, p99, most."""


@dataclass(slots=True)
class _Watch:
    """Hears a run's events: when its phase began, and how long its workers waited for a core since."""

    fifo: bool
    control: Sequence[str] = ()
    """The command of the control, started with the phase."""
    controlling: subprocess.Popen[str] | None = None
    began_ns: int = 0
    waits: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, event: object) -> None:
        if isinstance(event, Began):
            self.began_ns = event.at_ns
            if self.control:
                self.controlling = subprocess.Popen(self.control, stdout=subprocess.PIPE, text=True)
            for pid in workers() if self.fifo else ():
                os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
        with contextlib.suppress(OSError, IndexError):  # a worker that just ended
            waited = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) for pid in workers())
            self.waits.append((time.monotonic_ns(), waited))

    def control_ms(self) -> tuple[float, ...]:
        """How late the control was, once it has ended."""
        if self.controlling is None:
            return ()
        out, _ = self.controlling.communicate(timeout=60)
        return tuple(ns / 1e6 for ns in json.loads(out)["late_ns"])

    @property
    def waited(self) -> float:
        (since, before), (until, after) = self.waits[0], max(self.waits, key=lambda one: one[1])
        return (after - before) / max(until - since, 1)


def workers() -> list[int]:
    """The process ids of this process's workers."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # one that just ended
            if "streamgauge.worker" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=float, default=1_000.0, help="arrivals a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the first run")
    parser.add_argument("--arrivals", choices=("constant", "poisson"), default="constant", help="how they are spread")
    parser.add_argument("--model", default=MODEL, help="the server's schedule")
    told = "the worker has a core of its own (real-time scheduler): what is left is our own doing"
    parser.add_argument("--fifo", action="store_true", help=told)


def measure(asked: argparse.Namespace) -> Found:
    title = f"Open loop: {asked.rate:g} arrivals/s ({asked.arrivals}) of {asked.model} for {asked.seconds:g} s"
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        server, control = compiled(SERVER, Path(made)), compiled(CONTROL, Path(made))
        if server is None or control is None:
            return Found(title, COLUMNS, [("-",) * len(COLUMNS)], notes=("no C compiler (cc) here: not measured",))
        progress("on time")
        free = Rate(asked.rate, round(asked.rate * 10), asked.arrivals)
        beside = (control, f"{asked.rate:g}", f"{asked.seconds:g}", *(["--fifo"] if asked.fifo else []))
        on_time = run(server, free, asked.seconds, asked.model, control=beside, fifo=asked.fifo)
        progress("slowed")
        slowed = run(
            server,
            msgspec.structs.replace(free, per_s=asked.rate / 4),
            SHORT_S,
            asked.model,
            stopping=True,
            fifo=asked.fifo,
        )
        progress("queued")
        slow_to_accept = ("--close", "--accept-us", str(ACCEPT_US), "--backlog", str(BACKLOG))
        queued = run(server, Rate(QUEUED_RATE, 10_000), SHORT_S, asked.model, *slow_to_accept, fifo=asked.fifo)
    rows = [row(name, ran) for name, ran in (("on time", on_time), ("slowed", slowed), ("queued", queued))]
    rows.insert(
        1, ("control", f"{round(asked.rate * asked.seconds):,}", "-", _listed(*on_time.control_ms), *["-"] * 10)
    )
    bounds = (*_kept(on_time, free, asked.seconds), *_slowed(slowed), *_queued(queued))
    return Found(title, COLUMNS, rows, bounds, (
        f"the worker {'has a core of its own (real-time scheduler)' if asked.fifo else 'takes its turn like others'}",
        f"slowed: a quarter of the rate, the worker stopped for {STOPPED_S:g} s every {EVERY_S:g} s",
        f"queued: {QUEUED_RATE:g} arrivals/s, of which the server takes {1e6 / ACCEPT_US:g}/s and lets {BACKLOG} wait",
    ))  # fmt: skip


def run(
    server: str, load: Rate, seconds: float, model: str, *how: str, stopping: bool = False, fifo: bool = False,
    control: Sequence[str] = (),
) -> Ran:  # fmt: skip
    """One phase of these arrivals; `stopping`: the worker is stopped again and again; `control` runs beside."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        watch = _Watch(fifo, control)
        with serving(server, folder / "truth.bin", *how, whole=False) as (port, _):
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            target = target_from_url(url, dialect="openai-chat", model=model)
            target = msgspec.structs.replace(target, addresses=(("127.0.0.1", port),))
            phase = Phase("hold", (Lane((target.name,), ("own",), load),), 0, duration_ns=round(seconds * S))
            journal = Journal(folder)
            plan = Load(targets=(target,), prompts={"own": (PROMPT,)}, phases=(phase,), seed=1)
            with _held_up() if stopping else nullcontext():
                ending = conduct(plan, folder, SystemClock(), journal, watch)
            journal.close()
            if ending.partial:
                raise RuntimeError(f"the run did not end as planned: {ending}")
        found = list(records(folder))
        samples = sorted((one for one in found if isinstance(one, Sample)), key=lambda sample: sample.due_ns)
        ticks = [one for one in found if isinstance(one, AuditTick)]
        truth = read_log(folder / "truth.bin")
        return Ran(samples, ticks, truth, watch.began_ns, watch.waited, watch.control_ms())


@contextmanager
def _held_up() -> Iterator[None]:
    """Stops this process's workers for STOPPED_S every EVERY_S; they go on when the block ends."""
    over = threading.Event()

    def act() -> None:
        while not over.wait(EVERY_S - STOPPED_S):
            held = workers()
            for pid in held:
                os.kill(pid, signal.SIGSTOP)
            over.wait(STOPPED_S)
            for pid in held:
                os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def row(name: str, ran: Ran) -> tuple[str, ...]:
    """The figures of one run."""
    samples = ran.samples
    late = sorted(one.late_ns / 1e6 for one in samples)
    starts = sorted((_sent(one) - one.start_ns) / 1e3 for one in samples if one.conn_requests and one.start_ns)
    begin, end = samples[0].due_ns, samples[-1].due_ns
    used, since, until = processor(ran.ticks, begin, end)
    open_ns = sum(one.end_ns - one.due_ns for one in samples)
    waits = [sorted(map(of, samples)) for of in (ttft_ms, service_ms, queued_ms)]
    slack = sorted(one.first_token_slack_ns / 1e6 for one in samples)
    return (
        name,
        f"{len(samples):,}",
        f"{open_ns / (end - begin):.0f}",
        _listed(at(late, 0.5), at(late, 0.95), at(late, 0.99), late[-1]),
        f"{over_50_ms(samples):.1%}",
        f"{at(starts, 0.5):.0f} / {at(starts, 0.95):.0f}" if starts else "-",
        *(_listed(at(values, 0.5), at(values, 0.95)) for values in waits),
        f"{at(slack, 0.95):.2f}",
        *(f"{at(values, 0.95):.2f}" for values in errors_ms(ran)),
        f"{used * 1e9 / (until - since):.0%}",
        f"{ran.waited:.0%}",
    )


def _kept(ran: Ran, load: Rate, seconds: float) -> list[Bound]:
    """What an open loop owes where nothing is in its way."""
    planned = [ran.began_ns + offset for offset in islice(load.offsets(1), len(ran.samples) + 1)]
    exact = [one.due_ns for one in ran.samples] == planned[:-1] and planned[-1] >= ran.began_ns + seconds * S
    late = sorted(one.late_ns / 1e6 for one in ran.samples)
    bad = sum(one.outcome is not Outcome.OK for one in ran.samples)
    error = at(errors_ms(ran)[0], 0.95)
    return [
        Bound(f"every arrival has one Sample, due when the plan says: {len(ran.samples):,}", exact),
        punctual(at(late, 0.99), ran.control_ms[2]),
        Bound(f"{bad} arrivals ended badly, limit 0", bad == 0),
        Bound(f"ttft off the truth by {error:.2f} ms at p95, limit {ERROR_MS:g} ms", error <= ERROR_MS),
    ]


def punctual(late_ms: float, control_ms: float) -> Bound:
    """That our starts are late by less than 1 ms (p99); where the machine was not free, by 1 ms over the control."""
    free = control_ms <= LATE_MS
    limit = LATE_MS if free else control_ms + LATE_MS
    how = "the machine was free" if free else f"the machine was not free, so it is the control's and {LATE_MS:g} ms"
    told = f"lateness p99 {late_ms:.2f} ms, the control's {control_ms:.2f} ms: limit {limit:.2f} ms ({how})"
    return Bound(told, late_ms < limit)


def _slowed(ran: Ran) -> list[Bound]:
    """A generator that is held up says so, and ttft still tells what users would have waited."""
    whole, service = (at(values, 0.95) for values in errors_ms(ran))
    share = over_50_ms(ran.samples)
    other = at(sorted(abs(queued_ms(one) - one.late_ns / 1e6) for one in ran.samples), 0.95)
    return [
        Bound(f"slowed: {share:.0%} of the starts counted over 50 ms late, invalid from 5 % on", share > SHARE_LATE),
        Bound(f"slowed: ttft off by {whole:.2f} ms at p95, limit {ERROR_MS:g} ms", whole <= ERROR_MS),
        Bound(f"slowed: ttft_service off by {service:.2f} ms at p95, limit {ERROR_MS:g} ms", service <= ERROR_MS),
        Bound(f"slowed: what queued is our lateness to {other:.1f} ms at p95, limit 5 ms", other <= 5),
    ]


def _queued(ran: Ran) -> list[Bound]:
    """Connects that wait are the service's: in ttft from due, not in our lateness, and not in ttft_service."""
    whole = at(errors_ms(ran)[0], 0.95)
    queued = at(sorted(map(queued_ms, ran.samples)), 0.95)
    late = at(sorted(one.late_ns / 1e6 for one in ran.samples), 0.95)
    told = f"queued: {queued:.0f} ms from due to sent at p95, of which {late:.1f} ms late through us"
    return [
        Bound(told, queued > 10 * late),
        Bound(f"queued: ttft off by {whole:.2f} ms at p95, limit {ERROR_MS:g} ms", whole <= ERROR_MS),
    ]


def errors_ms(ran: Ran) -> tuple[list[float], list[float]]:
    """How far (ttft from due, ttft from sent) lie from the server's first write beyond their slack, ascending."""
    whole, service = [], []
    for one in ran.samples:
        answer = ran.truth.get(one.id)
        if answer is not None:
            write, slack = answer.writes[0][0], one.first_token_slack_ns / 1e6
            whole.append(_beyond(ttft_ms(one), (write - one.due_ns) / 1e6, slack))
            service.append(_beyond(service_ms(one), (write - _sent(one)) / 1e6, slack))
    return sorted(whole), sorted(service)


def _beyond(found: float, true: float, slack: float) -> float:
    return max(found - slack - true, true - found, 0.0)


def over_50_ms(samples: list[Sample]) -> float:
    """The share of starts that were over 50 ms late through us, as the report counts them."""
    collector = MetricsCollector()
    for sample in samples:
        collector.add(sample)
    columns = collector.columns()
    starts, late = starts_late(columns, columns.select())
    return late / starts


def ttft_ms(sample: Sample) -> float:
    """From due."""
    assert sample.first_token_ns is not None
    return (sample.first_token_ns - sample.due_ns) / 1e6


def service_ms(sample: Sample) -> float:
    """From sent."""
    assert sample.first_token_ns is not None
    return (sample.first_token_ns - _sent(sample)) / 1e6


def queued_ms(sample: Sample) -> float:
    """From due to sent."""
    return (_sent(sample) - sample.due_ns) / 1e6


def _sent(sample: Sample) -> int:
    assert sample.sent_ns is not None
    return sample.sent_ns


def _listed(*values: float) -> str:
    return " / ".join(f"{value:.2f}" for value in values)
