"""What we measure under load beside a C client, against a server in C that knows when it wrote (truth_server.c).

Both hold the same streams of the same server, one after the other: starts spread over the ramp, or all at once. The
C client (epoll_client.c) is what a plain program does: it reads the clock before it sends and after its first read.
Error: ttft_service less the time from the whole request to just before the first write. Pick-up: from `sent` to the
server's whole request; it is part of the error. Stamps beyond: how far the arrival of a read that brought text (ours:
every read, by its kernel stamp; the C client: the first, by its own clock) lies outside the (before, after) of the
write that ended the read. Slack holds: of first and last texts that share a read with later events, those whose write
lies in what the slack allows. The limit: what the C client is brought when more is asked for than can be.
Events: what differs between those of an answer (bench.truth_log.FORMS). `same`, nothing, suits us best, for an event
like the last is not decoded again; `padded` is as OpenAI's.
Figures are medians over the runs of a case; `python -m bench slack` holds every single event against its write.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from bench.found import Bound, Found, progress
from bench.load import RAMP_S, compiled
from bench.plain_client import CLIENT
from bench.truth_log import FORMS, SERVER, Answer, answers, read_log, serving
from bench.truth_run import Case, Run, c_run, our_run

__all__ = ["SERVER", "Answer", "answers", "measure", "options", "read_log", "serving"]

MODEL = "sim-t300-i20-n100"
BEYOND_MS = (0.2, 0.5, 1.0)
"""What a stamp may lie beyond its write, at p50, p95 and p99, however the streams start."""
OVER_C_MS = (0.3, 0.5, 1.0)
"""What our error may be more than the C client's in the same run."""
ERROR_MS = (0.5, 1.0, 2.0)
"""What our error may be in the best of the runs."""
ITL_SHARE = 0.01
SLACK_MISSED = 1 / 1_000
COLUMNS = (
    "streams", "starts", "events", "client", "open", "tok/s", "requests", "error ms p50 / p95 / p99",
    "pick-up ms p50 / p95", "stamps beyond ms p50 / p95 / p99", "slack holds", "ITL p50 ms told / true", "merged",
    "us an event", "of a core", "server late ms",
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, nargs="*", default=[100, 500, 1000], help="starts spread over the ramp")
    parser.add_argument("--herd", type=int, nargs="*", default=[100, 500, 1000], help="all starts at once")
    parser.add_argument("--varied", type=int, nargs="*", default=[500, 1000], help="starts spread, events of --form")
    parser.add_argument("--form", choices=FORMS[1:], default="padded", help="of the varied events")
    parser.add_argument("--model", default=MODEL, help="its schedule")
    parser.add_argument("--ramp-s", type=float, default=RAMP_S, help="over which the starts are spread")
    parser.add_argument("--rounds", type=int, default=4, help="requests of each stream")
    parser.add_argument("--times", type=int, default=1, help="runs of each client in each case, in turn")
    parser.add_argument("--limit", type=int, default=3000, help="streams of the C client to find the machine's limit")
    parser.add_argument("--kernel", action="store_true", help="the C client takes the kernel's stamps as well")


def measure(asked: argparse.Namespace) -> Found:
    title = f"Accuracy under load, beside a C client, model {asked.model}"
    rows, bounds, held = [], [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        server, client = compiled(SERVER, Path(made)), compiled(CLIENT, Path(made))
        if server is None or client is None:
            return Found(title, COLUMNS, [("-",) * len(COLUMNS)], notes=("no C compiler (cc) here: not measured",))
        spread, herd = [Case(n, asked.ramp_s) for n in asked.streams], [Case(n, 0.0) for n in asked.herd]
        for case in [*spread, *(Case(n, asked.ramp_s, asked.form) for n in asked.varied), *herd]:
            ours, plain = [], []
            for turn in range(asked.times):
                progress(f"{case.words}, run {turn + 1} of {asked.times}")
                ours.append(our_run(server, case, asked))
                plain.append(c_run(server, client, case, asked))
            rows += [row(case, "streamgauge", ours), row(case, "C epoll", plain)]
            own = bounds_of(case, ours, plain)
            bounds += own
            if case.ramp_s and all(bound.holds for bound in own):
                held.append(median(run.tokens_per_s for run in ours))
        progress(f"the machine's limit, {asked.limit} streams of the C client")
        full = Case(asked.limit, asked.ramp_s)
        most = c_run(server, client, full, asked)
        rows.append(row(full, "C epoll, the limit", [most]))
    limit = most.tokens_per_s
    where = f"up to {max(held):,.0f} tok/s, {max(held) / limit:.0%} of it" if held else "at no level here"
    notes = (
        f"server and C client carry {limit:,.0f} tok/s on this machine; all bounds of ours hold {where}",
        f"the server's scheduling: {most.scheduled}",
    )
    return Found(title, COLUMNS, rows, tuple(bounds), notes)


def row(case: Case, client: str, runs: list[Run]) -> tuple[str, ...]:
    """Medians over the runs, each figure by itself."""
    slacks = sum(run.slacks for run in runs)
    itl = [run.itl for run in runs if run.itl is not None]
    merged = [run.merged for run in runs if run.merged is not None]
    return (
        str(case.streams),
        case.starts,
        case.form,
        client,
        f"{median(run.open for run in runs):.0f}",
        f"{median(run.tokens_per_s for run in runs):,.0f}",
        str(sum(run.requests for run in runs)),
        _listed(_medians([run.error for run in runs])),
        _listed(_medians([run.picked_up for run in runs])[:2]),
        _listed(_medians([run.beyond for run in runs])),
        f"{1 - sum(run.slack_missed for run in runs) / slacks:.1%}" if slacks else "-",
        _listed(_medians(itl)) if itl else "-",
        f"{median(merged):.2%}" if merged else "-",
        f"{median(run.us_an_event for run in runs):.0f}",
        f"{median(run.core for run in runs):.0%}",
        f"{median(run.late_ms for run in runs):.2f}",
    )


def bounds_of(case: Case, ours: list[Run], plain: list[Run]) -> list[Bound]:
    """What a case is held to. With all starts at once only the stamps are: a herd waits for each other everywhere."""
    beyond = _medians([run.beyond for run in ours])
    found = [
        _within("stamps beyond their writes by", beyond, BEYOND_MS),
        _rare("reads whose stamp has no write of its own", sum(r.doubled for r in ours), sum(r.reads for r in ours)),
        _rare("writes outside what the slack allows", sum(r.slack_missed for r in ours), sum(r.slacks for r in ours)),
    ]
    if case.ramp_s:
        over = _medians(
            [tuple(a - b for a, b in zip(o.error, c.error, strict=True)) for o, c in zip(ours, plain, strict=True)]
        )
        best = min(ours, key=lambda run: max(e / limit for e, limit in zip(run.error, ERROR_MS, strict=True)))
        shares = [abs(told / true - 1) for told, true in (run.itl for run in ours if run.itl is not None)]
        found += [
            _within("error over the C client's", over, OVER_C_MS),
            _within(f"error in the best of {len(ours)} runs", best.error, ERROR_MS),
            Bound(f"itl p50 off by {median(shares):.2%}, limit {ITL_SHARE:.0%}", median(shares) <= ITL_SHARE),
        ]
    return [Bound(f"{case.words}: {bound.words}", bound.holds) for bound in found]


def _within(words: str, values: tuple[float, ...], limits: tuple[float, ...]) -> Bound:
    holds = all(value <= limit for value, limit in zip(values, limits, strict=True))
    return Bound(f"{words} {_listed(values)} ms (p50 / p95 / p99), limits {_listed(limits)}", holds)


def _rare(words: str, wrong: int, of: int) -> Bound:
    return Bound(f"{wrong} of {of} {words}, limit 1 in 1,000", wrong <= of * SLACK_MISSED)


def _medians(runs: list[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(median(values) for values in zip(*runs, strict=True))


def _listed(values: tuple[float, ...]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)
