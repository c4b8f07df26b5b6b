"""The run folder: `.streamgauge/runs/<id>/`, one a test. Everything later works from it, offline.

    run.json         the head: what was asked, of whom, by which criteria; written once, before the first request
    journal.jsonl    what happened: phases, stops, the end; a line at a time, as it happened
    samples-*.sgs    the Samples, a file a worker and round
    readings.msgpack what the probes read of the server, where there are any; framed as the Samples are
    report.json      the last report made from it

Rules: no secret is in any of them. A run that was killed has no `end` line and is partial.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streamgauge.errors import StorageError, UsageError
from streamgauge.plan import Phase as Planned
from streamgauge.reports.document import Calibration, Resumed
from streamgauge.sample import AuditTick, Block, Reading, Record, Sample, read_blocks
from streamgauge.summary import Phase
from streamgauge.verdict import Criterion

FORMAT = 1
RUNS = Path(".streamgauge") / "runs"
READINGS = "readings.msgpack"
GAP = "gap"
"""The phase of no load between the moment in which a run was cut off and that in which it went on."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is, fixed before its first request."""

    format: int = FORMAT
    id: str
    test: str
    suite: str | None
    version: str
    python: str
    platform: str
    host: str
    cpus: int
    git: str | None
    started: str
    """UTC, ISO 8601."""
    start_ns: int
    environment: str | None
    kind: str
    preset: str
    settings: dict[str, object]
    targets: list[dict[str, str | None]]
    controls: dict[str, str]
    """target -> its control."""
    only_controls: list[str]
    prices: dict[str, tuple[float, float]]
    criteria: list[Criterion]
    confidence: float
    """Of each one-sided bound: 0.95, or 0.975 where the run may look twice."""
    doubles: bool
    phases: list[Planned]
    judged_phases: list[str]
    spec_digest: str | None
    seed: int
    rerun: str
    out: str
    descriptors_limit: int | None
    workers: int
    notes: list[str]
    inconclusive_passes: bool = False
    calibration: Calibration | None = None
    """What was known of this machine when the run began."""
    paces: dict[str, float] = {}
    """target -> its rpm, where it has one."""
    silence: list[str] = []
    """Findings that are not told."""
    boot: str | None = None
    """Which start of the machine it began in: its monotonic times mean nothing in another."""
    probes: list[dict[str, str]] = []
    """name, kind and what it reads, of each probe."""
    compiled: bool | None = None
    """Whether the compiled part waited and read; None in a run of before this was told."""
    here: list[str] | None = None
    """The targets that this machine serves itself, or the way to which begins on it (a proxy); None likewise."""


class Resumption(msgspec.Struct, frozen=True):
    """The journal's line of a run that goes on."""

    cut_ns: int
    """When it had been cut off, as far as its records reach."""
    at_ns: int
    at: str
    """UTC, ISO 8601."""

    def told(self, start_ns: int) -> Resumed:
        """The same as the report has it."""
        return Resumed(at=self.at, cut_s=(self.cut_ns - start_ns) / 1e9, gap_s=(self.at_ns - self.cut_ns) / 1e9)


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A phase that was taken as failed."""

    phase: str
    level: int
    why: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Story:
    """The journal, read."""

    phases: list[Phase]
    end_ns: int | None
    stopped_by: str | None
    stopped_targets: tuple[str, ...]
    signal: int | None
    worker_died: str | None
    slept_s: float
    """How long the machine was suspended in it."""
    finished: bool
    partial: bool
    rounds: int
    """Of the plan; one that only goes on with what was cut off is none."""
    resumed: tuple[Resumed, ...] = ()
    gave_up: tuple[GaveUp, ...] = ()
    """Phases that the stop rule ended while the run went on."""


def new_id(started: str, test: str) -> str:
    """A run's id: its start in UTC, the test, and four random digits, so that two starts at once never meet."""
    stamp = re.sub(r"[-:]|\.\d+", "", started).replace("+0000", "Z")
    return f"{stamp}-{test}-{os.urandom(2).hex()}"


def create(head: Head, root: Path) -> Path:
    """Make the run's folder and write its head. StorageError names what cannot be written."""
    folder = root / RUNS / head.id
    try:
        folder.mkdir(parents=True, mode=0o700)
        write_whole(folder / "run.json", msgspec.json.format(msgspec.json.encode(head), indent=2))
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}: {error.strerror}; run where the folder can be written, or free space"
        ) from None
    return folder


def write_whole(path: Path, data: bytes) -> None:
    """Write a file at once or not at all."""
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def find(run: str, root: Path) -> Path:
    """The folder of `run`: a path, an id, the beginning of one, or `last`. UsageError lists what is there."""
    path = Path(run)
    if (path / "run.json").is_file():
        return path
    runs = root / RUNS
    known = sorted(p.parent.name for p in runs.glob("*/run.json")) if runs.is_dir() else []
    found = known[-1:] if run == "last" else [name for name in known if name.startswith(run)]
    if len(found) == 1:
        return runs / found[0]
    if not known:
        raise UsageError(f"no run {run!r}: {runs} holds none; start one with `streamgauge run`")
    shown = ", ".join(known[-5:])
    if found:
        raise UsageError(f"{run!r} is the beginning of {len(found)} runs; say more of it: {', '.join(found[-5:])}")
    raise UsageError(f"no run {run!r} in {runs}; the last ones: {shown}, or say `last`")


def read_head(folder: Path) -> Head:
    """The run's head. UsageError where it is none of ours or of a newer streamgauge."""
    path = folder / "run.json"
    try:
        data = path.read_bytes()
        version = json.loads(data).get("format")
        if isinstance(version, int) and version > FORMAT:
            raise UsageError(f"{path} has format {version}; this streamgauge reads up to {FORMAT}: use a newer one")
        return msgspec.json.decode(data, type=Head)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{folder} holds no run that can be read: {error}; name another, or say `last`") from None


def read_story(folder: Path) -> Story:
    """What happened, as far as it was written."""
    starts: list[tuple[str, int, int]] = []
    rates: dict[int, float] = {}
    gave_up: list[GaveUp] = []
    end_ns = None
    ends: list[dict[str, object]] = []
    rounds = began = slept_ns = 0
    resumed: list[Resumed] = []
    for event in _lines(folder / "journal.jsonl"):
        if event.get("event") == "phase":
            starts.append((str(event["name"]), int(str(event["level"])), int(str(event["at_ns"]))))
            if "rate" in event:
                rates[starts[-1][2]] = float(str(event["rate"]))
        elif event.get("event") == "gave_up":
            gave_up.append(GaveUp(str(event["phase"]), int(str(event["level"])), str(event["why"]),
                                  int(str(event["at_ns"]))))  # fmt: skip
        elif event.get("event") == "stop":  # no load is wanted any more: what follows is not the phase's
            starts.append(("drain", 0, int(str(event["at_ns"]))))
        elif event.get("event") == "end":
            ends.append(event)
            end_ns = int(str(event["at_ns"]))
        elif event.get("event") == "slept":
            slept_ns += int(str(event["for_ns"]))
        elif event.get("event") == "round":
            began += 1
            rounds += not event.get("resumed")
        elif event.get("event") == "resume":  # however it ended before, it goes on
            line = msgspec.convert(event, Resumption)
            resumed.append(line.told(starts[0][2] if starts else line.cut_ns))
            starts.append((GAP, 0, line.cut_ns))
            ends, end_ns, began = [], None, 0
    last = end_ns if end_ns is not None else max(itertools.chain([starts[-1][2] if starts else 0], _times(folder)))
    phases = [
        Phase(
            name=name,
            level=level,
            start_ns=at,
            end_ns=starts[i + 1][2] if i + 1 < len(starts) else last,
            rate=rates.get(at),
        )
        for i, (name, level, at) in enumerate(starts)
    ]
    told = ends[-1] if ends else {}
    targets = told.get("stopped_targets") or []
    assert isinstance(targets, list)
    signal = told.get("signal")
    return Story(
        phases=phases,
        end_ns=end_ns,
        stopped_by=_words(told.get("stopped_by")) if ends else "the run was killed",
        stopped_targets=tuple(str(t) for t in targets),
        signal=signal if isinstance(signal, int) else None,
        worker_died=_words(told.get("worker_died")),
        slept_s=slept_ns / 1e9,
        finished=len(ends) >= max(began, 1),
        partial=len(ends) < max(began, 1) or any(bool(e.get("partial")) for e in ends),
        rounds=rounds,
        gave_up=tuple(gave_up),
        resumed=tuple(resumed),
    )


def _times(folder: Path) -> Iterator[int]:
    """When each record was made: the last is the latest that is known of a run that was killed."""
    for record in records(folder):
        if isinstance(record, Sample):
            yield record.end_ns
        elif isinstance(record, AuditTick):
            yield record.at_ns


def _words(value: object) -> str | None:
    return None if value is None else str(value)


def _lines(path: Path) -> Iterator[dict[str, object]]:
    """The journal's events; a torn last line is left out."""
    if not path.is_file():
        return
    for line in path.read_text("utf-8", "replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            return
        if isinstance(event, dict):
            yield event


def records(folder: Path) -> Iterator[Record]:
    """Every record of every worker and round."""
    for block in blocks(folder):
        yield from block.records()


def blocks(folder: Path) -> Iterator[Block]:
    """The same, not yet decoded, some thousand at a time."""
    for path in sorted(folder.glob("samples-*.sgs")):
        yield from read_blocks(path)


def readings(folder: Path) -> list[Reading]:
    """What the probes read, in order of time; none where the run had no probe."""
    paths = sorted(folder.glob(f"{Path(READINGS).stem}*"))  # a run that went on has several
    return sorted((r for path in paths for block in read_blocks(path) for r in block.readings()), key=lambda r: r.at_ns)
