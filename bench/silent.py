"""Never wrong in silence: load x disturbance, what a run reported, and what the server knows it did.

Each run is the real command (`streamgauge run ttft`) against bench/truth_server.c, with something done to it
(bench/disturb.py). Compared are p50, p95 and p99 of ttft (from due) and ttft_service (from sent), in % of their limits
(500, 1,000 and 2,000 ms), with the same quantiles of the truth: from our `sent` to just before the server's first
write, for both. What comes before `sent` is our own doing here, the load being closed and the connections kept.

Pick-up, from `sent` to the server's whole request, is shown apart: the stamps are right however long it takes, but on
one machine with the server we may be why it takes long. It must not be silent either: where a quantile of it exceeds
5 % of a limit, the report must say that the machine was full.

Load alone is tried up to 4,000 streams. Each disturbance is tried at a load that the machine carries with ease, at one
that it just carries, and at one that it does not; between and above those load alone decides, and the row is `none`'s.

With `--keep FILE` each result is written down at once, and those of an earlier start with the same model, rounds and
scheduling are taken from there, so that a cut loses nothing and single cases can be added by name.

Bound: no run with an error over 5 % of a limit is anything but invalid, with its cause named. False alarms (invalid,
and every quantile was right) are counted, not bounded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil, inf
from pathlib import Path
from statistics import median

from bench.disturb import ACTS, Run, disturbed
from bench.found import Bound, Found, Machine, progress
from bench.load import compiled
from bench.silent_plot import Point, draw
from bench.truth_log import SERVER, read_log, serving
from streamgauge.sample import NOT_JUDGED, Sample
from streamgauge.suite.folder import records

HERE = Path(__file__).parent
MODEL = "sim-t250-j200-i20-n40"
LEVELS = (100, 500, 1000, 2000, 4000)
DISTURBED = (100, 500, 2000)
"""Levels of load alone; levels at which something is done as well."""
LIMITS = {"p50": 500.0, "p95": 1000.0, "p99": 2000.0}
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
METRICS = ("ttft_ms", "ttft_service_ms")
ALLOWED = 5.0
"""Error that may be told as right, in % of the limit."""
LONGEST_S = 200
OURS = ("not judged: ", "undecided: our own", "undecided: a step", "undecided: this machine")
"""How the sentence of a criterion begins whose number could be off through us."""
MOST = 12_000
"""Requests of one run; at least three of each stream."""
COLUMNS = (
    "streams", "disturbed by", "n", "ttft error % of limit p50 / p95 / p99", "ttft_service error %", "pick-up %",
    "verdict", "cause",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """One run. Errors are signed, in % of the limit; None where the report told no value."""

    streams: int
    disturbed_by: str
    n: int
    errors: dict[str, dict[str, float | None]]
    """metric -> stat -> error; `pick-up` beside the metrics."""
    verdict: str
    causes: list[str]
    says_full: bool
    lost: int
    """Judged requests that the server's log does not hold."""
    doubted: list[str] = field(default_factory=list)
    """metric.stat of each criterion that does not stand through us, whatever the run's verdict."""
    others: float | None = None
    """Share of the cores that other programs took meanwhile."""
    failed: list[str] = field(default_factory=list)
    """Each criterion that failed, and its sentence: why a verdict is `fail` beside causes that void others."""

    @property
    def worst(self) -> float:
        """The largest error of any quantile, without its sign."""
        return max((abs(e) for _, e in self._told()), default=0.0)

    @property
    def silent(self) -> bool:
        """Whether it was wrong and did not say so."""
        if self.verdict == "invalid" and self.causes:
            return False
        return any(abs(e) > ALLOWED and name not in self.doubted for name, e in self._told())

    def _told(self) -> Iterator[tuple[str, float]]:
        """(metric.stat, error) of each quantile that the report told."""
        for metric in METRICS:
            for stat, error in self.errors[metric].items():
                if error is not None:
                    yield f"{metric}.{stat}", error

    @property
    def false_alarm(self) -> bool:
        """Whether it was right and called itself invalid."""
        return self.worst <= ALLOWED and self.verdict == "invalid"


def options(parser: argparse.ArgumentParser) -> None:
    levels = f"default: {_numbers(LEVELS)} with none, else {_numbers(DISTURBED)}"
    parser.add_argument("--streams", type=int, nargs="+", default=argparse.SUPPRESS, help=f"levels; {levels}")
    parser.add_argument(
        "--disturbed-by", nargs="+", choices=list(ACTS), default=list(ACTS), help="what is done to the run"
    )
    parser.add_argument("--model", default=MODEL, help="the server's schedule")
    parser.add_argument("--rounds", type=int, default=24, help="requests of each stream")
    parser.add_argument("--fair", action="store_true", help="the server without real-time scheduling")
    parser.add_argument("--keep", type=Path, help="file of results, one a line: go on from there")
    parser.add_argument("--plot", type=Path, help="draw the results into this file (svg or png)")


def measure(asked: argparse.Namespace) -> Found:
    title = f"Never wrong in silence, model {asked.model}"
    how = {"model": asked.model, "rounds": asked.rounds, "fair": asked.fair}
    known = kept(asked.keep, how)
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        server = compiled(SERVER, Path(made))
        shim = compiled(HERE / "stepped_clock.c", Path(made), "-shared", "-fPIC", "-ldl")
        if server is None or shim is None:
            return Found(title, COLUMNS, [("-",) * len(COLUMNS)], notes=("no C compiler (cc) here: not measured",))
        for name in asked.disturbed_by:
            for streams in getattr(asked, "streams", LEVELS if name == "none" else DISTURBED):
                result = known.get((streams, name))
                if result is None:
                    progress(f"{streams} streams, {name}")
                    result = one(server, shim, streams, name, asked)
                    keep(asked.keep, how, result)
                results.append(result)
    if asked.plot is not None:
        draw([Point(r.disturbed_by, r.streams, r.worst, r.verdict) for r in results], asked.plot)
    wrong = [r for r in results if r.silent]
    unsaid = [r for r in results if _pick_up(r) > ALLOWED and not r.says_full and r.verdict != "invalid"]
    alarms = [r for r in results if r.false_alarm]
    bounds = (
        Bound(f"{len(wrong)} of {len(results)} runs were wrong in silence{_named(wrong)}", not wrong),
        Bound(f"{len(unsaid)} runs had a slow pick-up and did not say that the machine was full{_named(unsaid)}",
              not unsaid),
    )  # fmt: skip
    notes = [f"{len(alarms)} of {len(results)} runs were right and called invalid{_named(alarms)}"]
    others = sorted(r.others for r in results if r.others is not None)
    if others:
        notes.append(
            f"others took {others[0]:.0%} to {others[-1]:.0%} of the cores in a run, {median(others):.0%} in the median"
        )
    notes.append(f"the server {'takes its turn like others' if asked.fair else 'asks for real-time scheduling'}")
    return Found(title, COLUMNS, [_row(r) for r in results], bounds, tuple(notes))


def one(server: str, shim: str, streams: int, name: str, asked: argparse.Namespace) -> Result:
    """One run of the real command under one disturbance."""
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder, machine = Path(made), Machine()
        steps = folder / "steps"
        steps.write_bytes(b"\0" * 4096)
        env = {**os.environ, "LD_PRELOAD": shim, "STEPPED_CLOCK": str(steps)}
        with serving(server, folder / "truth.bin", whole=False, fair=asked.fair) as (port, _):
            process = subprocess.Popen(
                _command(port, streams, min(asked.rounds, max(MOST // streams, 3)), asked.model), cwd=folder, env=env,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                with disturbed(Run(process, folder, steps), ACTS[name]):
                    out, err = process.communicate(timeout=LONGEST_S)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
        if not out:
            raise RuntimeError(f"no report, exit {process.returncode}: {err[-2000:]}")
        return replace(_result(json.loads(out), folder, streams, name), others=machine.others)


def _command(port: int, streams: int, rounds: int, model: str) -> list[str]:
    criteria = [f"{metric}.{stat} < {limit:g}" for metric in METRICS for stat, limit in LIMITS.items()]
    asked = json.dumps([*criteria, "error_rate < 0.005"])
    return [
        sys.executable, "-m", "streamgauge", "run", "ttft", "--url", f"http://127.0.0.1:{port}/v1/chat/completions",
        "--dialect", "openai-chat", "--model", model, "--concurrency", str(streams),
        "--requests", str(streams * rounds), "--set", f"ttft.criteria={asked}",
        "--set", 'ttft.prompts=["short"]', "--out", "reports", "--json", "-q",
    ]  # fmt: skip


def _result(report: dict[str, object], folder: Path, streams: int, name: str) -> Result:
    truth = read_log(folder / "truth.bin")
    (run,) = folder.glob(".streamgauge/runs/*")
    held = [r for r in records(run) if isinstance(r, Sample) and r.phase == "hold" and r.outcome not in NOT_JUDGED]
    pairs = [(s, truth[s.id]) for s in held if s.id in truth and s.sent_ns is not None]
    true = sorted((a.writes[0][0] - (s.sent_ns or 0)) / 1e6 for s, a in pairs)
    picked = sorted((a.request_ns - (s.sent_ns or 0)) / 1e6 for s, a in pairs)
    metrics: dict[str, dict[str, float | None]] = report["metrics"]  # type: ignore[assignment]
    errors: dict[str, dict[str, float | None]] = {
        metric: {
            stat: _error(metrics[metric][stat], _rank(true, SHARES[stat]), limit) for stat, limit in LIMITS.items()
        }
        for metric in METRICS
    }
    errors["pick-up"] = {stat: _error(_rank(picked, SHARES[stat]), 0.0, limit) for stat, limit in LIMITS.items()}
    told, criteria = report["measurement"], report["criteria"]
    assert isinstance(told, dict)
    assert isinstance(criteria, list)
    doubted = [c["name"].partition(" ")[0] for c in criteria if c["sentence"].startswith(OURS)]
    failed = [f"{c['name']}: {c['sentence']}" for c in criteria if c["verdict"] == "fail"]
    return Result(
        streams, name, len(held), errors, str(report["verdict"]), [str(c) for c in told["invalid_because"]],
        any("this machine was full" in str(w) for w in report["warnings"]),  # type: ignore[attr-defined]
        len(held) - len(pairs), doubted, failed=failed,
    )  # fmt: skip


def _rank(ordered: Sequence[float], share: float) -> float:
    """Nearest rank, as reports have it."""
    return ordered[max(ceil(share * len(ordered)), 1) - 1] if ordered else inf


def _error(told: float | None, true: float, limit: float) -> float | None:
    return None if told is None else (told - true) / limit * 100


def _pick_up(result: Result) -> float:
    return max((e for e in result.errors["pick-up"].values() if e is not None), default=0.0)


def _row(result: Result) -> tuple[str, ...]:
    cells = [" / ".join("-" if e is None else f"{e:.1f}" for e in result.errors[m].values()) for m in result.errors]
    cause = result.causes[0].partition(": ")[2] or result.causes[0] if result.causes else "-"
    cause = "; ".join([*(f"failed: {one}" for one in result.failed), *([cause] if result.causes else [])]) or cause
    lost = f" ({result.lost} lost)" if result.lost else ""
    return (str(result.streams), result.disturbed_by, f"{result.n}{lost}", *cells, result.verdict, cause)


def _named(results: Sequence[Result]) -> str:
    return ": " + ", ".join(f"{r.streams} {r.disturbed_by} ({r.worst:.0f} %)" for r in results) if results else ""


def kept(path: Path | None, how: dict[str, object]) -> dict[tuple[int, str], Result]:
    """What the file holds of runs made like this. A last line without its end was cut off while it was written."""
    if path is None or not path.is_file():
        return {}
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    lines = map(json.loads, whole.splitlines())
    results = [Result(**line["result"]) for line in lines if line.get("how") == how]
    return {(r.streams, r.disturbed_by): r for r in results}


def keep(path: Path | None, how: dict[str, object], result: Result) -> None:
    """Add a result to the file."""
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps({"how": how, "result": asdict(result)}) + "\n")


def _numbers(levels: Sequence[int]) -> str:
    return ", ".join(f"{n:,}" for n in levels)
