"""What this machine can measure: levels of load against the built-in simulator, judged by the simulator's truth log.

Strategy: each level is a run of its own, with the worker processes a real one would have. What the simulator did wrong
(late sends, late pick-up of requests) stands in its log and is told apart: our error is how far a first token's stamp
lies from the true send. A level holds where the p95 of what we may have moved (error or claimed slack, and lateness)
stays within 5 % of the limit and at most 5 % of the starts were over 50 ms late: the rule by which a run is invalid.

The result is kept in the user's state folder, never in a project, with the machine's fingerprint and no name of it.
Rules: a file that cannot be read counts as none. What is old or of another machine is never quoted as if it were fresh.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import resource
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

from streamgauge import __version__
from streamgauge.client import target_from_url
from streamgauge.clock import Clock, S
from streamgauge.doubt import OURS_AT_MOST
from streamgauge.journal import Journal
from streamgauge.load import Load
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.reports.document import Calibration
from streamgauge.run import conduct
from streamgauge.sample import AuditTick, Outcome, Sample
from streamgauge.suite.folder import records, write_whole

if TYPE_CHECKING:
    from streamgauge.simulator import Record

MODEL = "sim-t100-i20-n50-j100"
"""First token after 100 to 200 ms, then one each 20 ms (50 tok/s), 50 of them."""
LIMIT_MS = 500.0
"""The tightest limit that a test has of its own (ttft p50); 5 % of it is what we may move."""
LEVEL_S, RAMP_S = 4.0, 1.5
LEVELS = (10, 50, 100, 200, 400, 800)
FEWEST = 10
LATE_MS = 50.0
SIM_LATE_MS = 10.0
"""Half a gap late at p95, the simulator is at its own end: more streams would not be more load."""
OLD = timedelta(days=90)
FORMAT, KEPT = 1, 20
VARIABLE = "STREAMGAUGE_STATE"


class Fingerprint(msgspec.Struct, frozen=True):
    """What a calibration depends on. No name of the machine is in it."""

    cpu: str
    cores: int
    kernel: str
    python: str
    streamgauge: str
    engine: str
    """`compiled` or `pure`."""


_PARTS = {
    "cpu": "processor", "cores": "number of cores", "kernel": "kernel", "python": "Python",
    "streamgauge": "streamgauge", "engine": "engine",
}  # fmt: skip
"""The fingerprint's parts as a person calls them."""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen at one level. Times in ms, p50 / p95 / p99 of first tokens where a dict; none of no requests."""

    streams: int
    requests: int
    events_per_s: float
    error_ms: dict[str, float]
    """Stamp against the true send."""
    moved_ms: float | None
    """p95 of error or slack, whichever is larger, and lateness."""
    late_share: float
    """Of the starts: over 50 ms late through us."""
    lost: int
    """Requests that did not end well."""
    cpu: float | None
    """The busiest worker's share of a core."""
    sim_late_ms: float | None
    """p95 of how late the simulator sent."""
    pick_up_ms: float | None
    """p95 from our sent until the simulator had read the request."""


class Calibrated(msgspec.Struct, frozen=True, kw_only=True):
    """One calibration as it is kept."""

    at: str
    """UTC, ISO 8601."""
    fingerprint: Fingerprint
    levels: list[Level]
    others: float
    """Share of the cores that other programs took meanwhile."""


class _File(msgspec.Struct, frozen=True):
    format: int
    calibrations: list[Calibrated]


# What is measured.


def ladder(planned: int | None) -> tuple[int, ...]:
    """The levels to try, ascending: up to the planned one, or as far as the simulator is of use."""
    if planned is None:
        return LEVELS
    return (*(level for level in LEVELS if level < planned), planned)


def calibrate(
    levels: tuple[int, ...], clock: Clock, tell: Callable[[Level], None], *, level_s: float = LEVEL_S
) -> Calibrated:
    """Measure level after level until one does not hold, or the simulator can do no more; `tell` hears each."""
    began, busy, own = clock.now(), _busy_s(), _own_s()
    found: list[Level] = []
    for streams in levels:
        found.append(measure(streams, level_s, clock))
        tell(found[-1])
        if fault(found[-1]) is not None or (found[-1].sim_late_ms or 0.0) > SIM_LATE_MS:
            break
    took = (clock.now() - began) / S * (os.cpu_count() or 1)
    others = max(_busy_s() - busy - (_own_s() - own), 0.0) / took
    at = datetime.fromtimestamp(clock.wall() / S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Calibrated(at=at, fingerprint=fingerprint(), levels=found, others=min(others, 1.0))


def measure(streams: int, seconds: float, clock: Clock) -> Level:
    """Hold so many streams of 50 tok/s for `seconds` and compare what was measured with the truth."""
    from streamgauge.simulator import start  # here: every run reads this module's file, few start a simulator

    ramp, hold = round(min(RAMP_S, seconds) * S), round(seconds * S)
    with start(model=MODEL) as sim, tempfile.TemporaryDirectory(prefix="streamgauge-") as name:
        target = target_from_url(sim.endpoint("openai-chat"), dialect="openai-chat", model=MODEL)
        target = msgspec.structs.replace(target, addresses=((sim.host, sim.port),))
        phases = (
            Phase("ramp", (Lane((target.name,), ("own",), Hold(streams, ramp)),), streams, duration_ns=ramp),
            Phase("hold", (Lane((target.name,), ("own",), Hold(streams)),), streams, duration_ns=hold),
        )
        folder = Path(name)
        journal = Journal(folder)
        load = Load(targets=(target,), prompts={"own": ("Why is the sky blue?",)}, phases=phases, seed=1)
        ending = conduct(load, folder, clock, journal, lambda _: None)
        journal.close()
        if ending.signal is not None:
            raise SystemExit(128 + ending.signal)
        if ending.bug is not None:
            raise RuntimeError(ending.bug)
        found = list(records(folder))
        sim.stop()
        truth = {record.trace_id or "": record for record in sim.log()}
    samples = [one for one in found if isinstance(one, Sample) and one.phase == "hold"]
    ticks = [one for one in found if isinstance(one, AuditTick)]
    return level_of(streams, samples, truth, ticks)


def level_of(streams: int, samples: list[Sample], truth: Mapping[str, Record], ticks: list[AuditTick]) -> Level:
    """The level's figures, out of its Samples and the truth. Pure."""
    errors, moved, picked_up, late = [], [], [], []
    for sample in samples:
        record = truth.get(sample.id)
        first = None if record is None else record.first("text")
        if record is None or first is None or sample.first_token_ns is None or sample.sent_ns is None:
            continue
        errors.append(abs(sample.first_token_ns - first.before_ns) / 1e6)
        moved.append(max(errors[-1], sample.first_token_slack_ns / 1e6) + sample.late_ns / 1e6)
        picked_up.append((record.request_complete_ns - sample.sent_ns) / 1e6)
        late += [send.late_ns / 1e6 for send in record.sends]
    since = min((one.due_ns for one in samples), default=0)
    until = max((one.due_ns for one in samples), default=0)
    sends = (send for record in truth.values() for send in record.sends if since <= send.before_ns < until)
    events = sum(send.has("text") for send in sends)
    return Level(
        streams=streams,
        requests=len(errors),
        events_per_s=events * S / (until - since) if until > since else 0.0,
        error_ms={f"p{q}": value for q in (50, 95, 99) if (value := _at(errors, q / 100)) is not None},
        moved_ms=_at(moved, 0.95),
        late_share=sum(one.late_ns > LATE_MS * 1e6 for one in samples) / max(len(samples), 1),
        lost=sum(one.outcome not in (Outcome.OK, Outcome.CANCELLED) for one in samples),
        cpu=max((tick.cpu for tick in ticks if since <= tick.at_ns <= until), default=None),
        sim_late_ms=_at(late, 0.95),
        pick_up_ms=_at(picked_up, 0.95),
    )


def _at(values: list[float], q: float) -> float | None:
    """A quantile by nearest rank; None of nothing."""
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else None


# What it means.


def fault(level: Level, limit_ms: float = LIMIT_MS) -> str | None:
    """Why numbers do not hold at this level, for a limit of `limit_ms`; None where they do."""
    allowed = OURS_AT_MOST * limit_ms
    if level.requests < FEWEST or level.moved_ms is None:
        return f"only {level.requests} requests could be compared"
    if level.moved_ms > allowed:
        return f"we may have moved first tokens by {level.moved_ms:,.1f} ms at p95, over 5 % of {limit_ms:g} ms"
    if level.late_share > OURS_AT_MOST:
        return f"{level.late_share:.0%} of the starts were over {LATE_MS:g} ms late through us"
    if level.lost:
        return f"{level.lost:,} requests did not end well"
    return None


def quoted(found: Calibrated, stale: str | None = None) -> Calibration:
    """What reports say of a calibration; where it is stale, only when it was and why it does not count."""
    held = [level for level in found.levels if fault(level) is None]
    best = max(held, key=lambda level: level.streams, default=None)
    if stale is not None:
        return Calibration(at=found.at, stale=stale, limit_ms=LIMIT_MS)
    return Calibration(
        at=found.at,
        stale=None,
        limit_ms=LIMIT_MS,
        streams=0 if best is None else best.streams,
        events_per_s=None if best is None else best.events_per_s,
        open_end=best is not None and best is found.levels[-1],
        floor_ms=dict(held[0].error_ms) if held else {},
        error_ms={} if best is None else dict(best.error_ms),
        others=found.others,
    )


def quote(path: Path, here: Fingerprint, now: datetime) -> Calibration | None:
    """The latest calibration of this machine as of `now`; a stale one says why. None where there never was one."""
    known = sorted(_read(path), key=lambda one: one.at)
    if not known:
        return None
    last = next((one for one in reversed(known) if one.fingerprint == here), None)
    if last is None:
        other = known[-1]
        changed = [word for name, word in _PARTS.items() if getattr(other.fingerprint, name) != getattr(here, name)]
        return quoted(other, f"it was made with another {' and '.join(changed)}")
    age = now - datetime.fromisoformat(last.at)
    return quoted(last, f"it is {age.days} days old" if age > OLD else None)


# What is kept.


def state_file(environ: Mapping[str, str]) -> Path:
    """Where calibrations are kept: below STREAMGAUGE_STATE, else XDG_STATE_HOME/streamgauge (~/.local/state)."""
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE]) / "calibration.json"
    home = environ.get("XDG_STATE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state"
    return base / "streamgauge" / "calibration.json"


def larger(path: Path, found: Calibrated) -> Calibrated | None:
    """The one in the file that tells more than `found` and is borne out by it; None where `found` is to be kept.

    It is of the same machine, not old, and tried more streams, while every level of `found` holds: where one does not,
    the machine is no longer what it was.
    """
    if any(fault(level) is not None for level in found.levels):
        return None
    since = datetime.fromisoformat(found.at) - OLD
    return next(
        (
            one
            for one in _read(path)
            if one.fingerprint == found.fingerprint
            and datetime.fromisoformat(one.at) >= since
            and one.levels[-1].streams > found.levels[-1].streams
        ),
        None,
    )


def keep(path: Path, found: Calibrated) -> str | None:
    """Add it to the file, in place of an earlier one of this machine. A warning in words where that cannot be done."""
    kept = [one for one in _read(path) if one.fingerprint != found.fingerprint]
    kept = [*sorted(kept, key=lambda one: one.at)[1 - KEPT :], found]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.format(msgspec.json.encode(_File(FORMAT, kept)), indent=2) + b"\n")
    except OSError as error:
        return f"{path} cannot be written ({error.strerror or error}): reports will not know of this calibration"
    return None


def _read(path: Path) -> list[Calibrated]:
    with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError, RecursionError):
        found = msgspec.json.decode(path.read_bytes(), type=_File)
        return [one for one in found.calibrations if one.levels] if found.format == FORMAT else []
    return []


def fingerprint() -> Fingerprint:
    """This machine's."""
    pure = os.environ.get("STREAMGAUGE_PURE", "") not in ("", "0")
    compiled = not pure and importlib.util.find_spec("streamgauge._drain") is not None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Fingerprint(
        cpu=_model(),
        cores=cores,
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        streamgauge=__version__,
        engine="compiled" if compiled else "pure",
    )


def _model() -> str:
    """The processor's name, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _busy_s() -> float:
    """Processor time of the whole machine that was not idle."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _own_s() -> float:
    """Processor time of this process and of its children that ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)
