"""The table of the comparison: every tool that is here, level by level."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.found import Bound, Found, progress
from bench.load import compiled
from bench.peers import ai_perf, c_epoll, guide_llm, inference_perf, locust_fast, ours, plain_programs
from bench.peers.run import Ran, run
from bench.peers.tool import Tool
from bench.truth_log import FORMS, SERVER

TOOLS: dict[str, Tool] = {
    "streamgauge": ours.TOOL,
    "c-epoll": c_epoll.TOOL,
    "aiohttp": plain_programs.AIOHTTP,
    "fetch": plain_programs.FETCH,
    "aiperf": ai_perf.TOOL,
    "guidellm": guide_llm.TOOL,
    "inference-perf": inference_perf.TOOL,
    "locust": locust_fast.TOOL,
}
MODEL = "sim-t300-i20-n100"
LEVELS = (1, 10, 100, 500, 1000, 2000)
FEWEST = 8
"""Requests at least, for one stream has few in a short time."""
MOST_ERROR = 1.0
"""A p95 that is off by more than this share is not taken further."""
HEAVY = ("aiperf", "guidellm")
TIMES_BELOW = 10
"""How many times less processor time a token ours takes than theirs, at C = 100."""
AT = 100
COLUMNS = (
    "tool", "C", "told ms p50 / p95 / p99", "true ms p50 / p95 / p99", "error p50 / p95 / p99", "open mean / most",
    "tok/s", "CPU us a token", "CPU s whole run", "peak MB (processes)", "s", "said of itself",
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tools", nargs="+", choices=tuple(TOOLS), default=tuple(TOOLS), help="which to run")
    parser.add_argument("--streams", type=int, nargs="+", default=list(LEVELS), help="levels of C")
    parser.add_argument("--rounds", type=int, default=5, help=f"requests of each stream, at least {FEWEST} in all")
    parser.add_argument("--model", default=MODEL, help="its schedule")
    parser.add_argument("--form", choices=FORMS, default="text", help="what differs between an answer's events")
    parser.add_argument("--timeout-s", type=float, default=150.0, help="of one run")
    parser.add_argument("--keep", type=Path, help="folder to copy to what each tool wrote")
    parser.add_argument("--plots", type=Path, help="folder to draw peers-error.svg and peers-open.svg in")


def measure(asked: argparse.Namespace) -> Found:
    found: dict[str, dict[int, Ran]] = {name: {} for name in asked.tools}
    title, rows = f"Load clients compared, model {asked.model}, events {asked.form}", []
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        server = compiled(SERVER, Path(made))
        if server is None:
            return Found(title, COLUMNS, [("-",) * len(COLUMNS)], notes=("no C compiler (cc) here: not measured",))
        for name in asked.tools:
            rows += levels(TOOLS[name], server, asked, found[name])
    versions = ", ".join(f"{TOOLS[name].name} {TOOLS[name].version()}" for name in asked.tools if found[name])
    notes = [f"versions: {versions}"]
    if asked.plots is not None:
        from bench.peers.draw import drawn

        pictures = drawn(asked.plots, {TOOLS[name].name: runs for name, runs in found.items() if runs})
        notes += [f"![{about}]({asked.plots.name}/{name})" for name, about in pictures]
    return Found(title, COLUMNS, rows, tuple(bounds(found)), tuple(notes))


def levels(tool: Tool, server: str, asked: argparse.Namespace, runs: dict[int, Ran]) -> list[tuple[str, ...]]:
    """One tool's rows, level by level until the stop rule; `runs` takes what was run."""
    rows, reason = [], tool.missing()
    if reason is not None:
        return [_blank(tool.name, "all", reason)]
    for streams in sorted(asked.streams):
        progress(f"{tool.name} at C = {streams}")
        requests = max(streams * asked.rounds, FEWEST)
        keep = asked.keep / f"{tool.name}-{streams}" if asked.keep else None
        ran = run(tool, server, streams, requests, asked.model, asked.timeout_s, keep, asked.form)
        runs[streams] = ran
        rows.append(row(tool.name, streams, ran))
        p95 = ran.errors[1]
        if ran.failed is None and (p95 is None or p95 <= MOST_ERROR):
            continue
        left = [level for level in sorted(asked.streams) if level > streams]
        if left:
            why = "failed" if ran.failed else f"p95 off by more than {MOST_ERROR:.0%}"
            rows.append(_blank(tool.name, ", ".join(map(str, left)), f"not run: {why} at {streams}"))
        break
    return rows


def row(name: str, streams: int, ran: Ran) -> tuple[str, ...]:
    """One run's cells."""
    truth, used, told = ran.truth, ran.used, ran.told
    said = list(told.said) if told else []
    if ran.failed:
        said.append(f"FAILED: {ran.failed}")
    if truth is not None and truth.left:
        said.append(f"{truth.left} streams cut at its end")
    return (
        name,
        str(streams),
        _listed(told.ttft_ms, ".1f") if told else "-",
        _listed(truth.ttft_ms, ".1f") if truth else "-",
        _listed(ran.errors, "+.1%"),
        f"{truth.open_mean:.0f} / {truth.open_most}" if truth else "-",
        f"{truth.tokens_per_s:,.0f}" if truth else "-",
        f"{used.load_s * 1e6 / truth.tokens:.0f}" if truth else "-",
        f"{used.cpu_s:.1f}",
        f"{used.peak_mb:.0f} ({used.processes})",
        f"{used.wall_s:.0f}",
        "; ".join(said).replace("|", "/") or "nothing",
    )


def bounds(found: dict[str, dict[int, Ran]]) -> list[Bound]:
    """Ours against the heavy ones, where both ran at the level: processor time a token while streams are open."""
    own, kept = found.get("streamgauge", {}).get(AT), []
    for name in HEAVY:
        theirs = found.get(name, {}).get(AT)
        if own is None or theirs is None or own.truth is None or theirs.truth is None:
            continue
        load = (theirs.used.load_s / theirs.truth.tokens) / (own.used.load_s / own.truth.tokens)
        whole = (theirs.used.cpu_s / theirs.truth.tokens) / (own.used.cpu_s / own.truth.tokens)
        words = (
            f"C = {AT}: {TOOLS[name].name} takes {load:.1f} times our processor time a token under load, limit "
            f"{TIMES_BELOW} times or more; {whole:.1f} times over the whole run"
        )
        kept.append(Bound(words, load >= TIMES_BELOW))
    return kept


def _blank(tool: str, streams: str, why: str) -> tuple[str, ...]:
    return (tool, streams, *["-"] * (len(COLUMNS) - 3), why)


def _listed(values: tuple[float | None, ...], form: str) -> str:
    return " / ".join("-" if value is None else format(value, form) for value in values)
