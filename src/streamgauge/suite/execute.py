"""One test from a prepared plan to its report: preflight, folder, load, verdict, files.

Rules: once the run folder exists, whatever happens leaves a run that can be reported. A test whose spec lets it look
twice (ttft at standard and full) is doubled once, when what is open could be settled by as many requests again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from streamgauge import __version__
from streamgauge.clock import Clock, boot_id
from streamgauge.compiled import part
from streamgauge.control import Report
from streamgauge.errors import Exit, StorageError, worst
from streamgauge.guard import Limits
from streamgauge.journal import Journal
from streamgauge.load import Load, workers_for
from streamgauge.net import is_this_machine
from streamgauge.plan import Phase
from streamgauge.probes.watch import Pace, Probe, watching
from streamgauge.reports import FORMS, LONG_FROM, ReportGenerator, write_while_judged
from streamgauge.run import Began, Ending, Listener, Stopping, conduct
from streamgauge.secrets import Redactor
from streamgauge.spec.presets import Settings
from streamgauge.spec.resolved import ResolvedTarget
from streamgauge.suite.assess import Assessment, assess, judged, take
from streamgauge.suite.folder import READINGS, Head, create, new_id, write_whole
from streamgauge.suite.prepare import Prepared, check_descriptors, preflight
from streamgauge.suite.probing import described, first_looks, probes_for, silent
from streamgauge.suite.resume import Left, next_readings, take_up
from streamgauge.suite.tests import TESTS
from streamgauge.target import Target
from streamgauge.worker import raise_descriptor_limit

__all__ = ["Bug", "Outcome", "execute", "head_of", "judge_and_write", "resume"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that ended: its assessment, the report's files, and the exit code with signals and policy applied."""

    assessment: Assessment
    files: tuple[Path, ...]
    exit: Exit
    ending: Ending
    unwritten: str | None = None
    """Why the reports could not be written, where they could not."""


class Bug(RuntimeError):
    """A worker ended by a bug of ours; the text is its traceback. `outcome`: what was measured before."""

    def __init__(self, text: str, outcome: Outcome) -> None:
        super().__init__(text)
        self.outcome = outcome


def execute(
    prepared: Prepared,
    *,
    clock: Clock,
    root: Path,
    out: Path,
    rerun: str,
    listener: Listener,
    suite: str | None = None,
    warn: Callable[[str], object] = str,
) -> Outcome:
    """Run the plan. TargetError where preflight fails, StorageError where nothing can be written, before any request.

    `warn` hears what a user should know before the load starts.
    Bug where a worker failed by our fault: after what was measured has been kept and reported.
    """
    load, probes = _ready(prepared, clock, warn)
    prepared = dataclasses.replace(prepared, load=load)
    folder = create(head_of(prepared, clock, out, rerun, suite, raise_descriptor_limit()), root)
    return _measure(_Work(prepared, probes, folder, clock, listener), load, Journal(folder), folder / READINGS, out)


def resume(
    prepared: Prepared, left: Left, folder: Path, *, clock: Clock, out: Path, listener: Listener,
    warn: Callable[[str], object] = str,
) -> Outcome:  # fmt: skip
    """Run what is left of the run in `folder`, whose plan `prepared` is; as `execute` in all else."""
    if not left.phases:  # all of it had ended: what is missing is the verdict
        with contextlib.closing(take_up(folder, left.cut_ns, clock)) as journal:
            journal.add("end", at_ns=clock.now(), stopped_by=None, partial=False)
        ending = Ending(None, partial=False)
        assessment, files, unwritten = judge_and_write(folder, out)
        return Outcome(assessment, files, _exit(assessment, ending, unwritten), ending, unwritten)
    load, probes = _ready(prepared, clock, warn)
    work = _Work(dataclasses.replace(prepared, load=load), probes, folder, clock, listener, left)
    widest = max(phase.streams for phase in load.phases)
    rest = msgspec.structs.replace(load, phases=left.phases, seed=left.seed, widest=widest)
    return _measure(work, rest, take_up(folder, left.cut_ns, clock), next_readings(folder), out)


@dataclass(frozen=True, slots=True)
class _Work:
    """What measuring needs besides the load itself."""

    prepared: Prepared
    probes: Sequence[Probe]
    folder: Path
    clock: Clock
    listener: Listener
    left: Left | None = None
    """Where it goes on with what was cut off."""


def _ready(prepared: Prepared, clock: Clock, warn: Callable[[str], object]) -> tuple[Load, Sequence[Probe]]:
    """Everything that may refuse before a folder is written: descriptors, preflight, a probe that must read."""
    check_descriptors(prepared.estimate.streams, raise_descriptor_limit(), prepared.resolved.settings.concurrency)
    load = preflight(prepared.load, clock)
    probes = probes_for(prepared.resolved, clock)
    for words in silent(first_looks(probes), needed=TESTS[prepared.resolved.settings.test].needs_probe):
        warn(words)
    return load, probes


def _measure(work: _Work, load: Load, journal: Journal, readings: Path, out: Path) -> Outcome:
    """Load and probes beside each other; then verdict and files."""
    folder, clock, resolved = work.folder, work.clock, work.prepared.resolved
    pace = Pace(collect=TESTS[resolved.settings.test].collects)
    try:
        if work.probes:
            journal.add("probes", at_ns=clock.now(), every_s=pace.every_s, probes=described(resolved))
        with watching(work.probes, readings, pace) as book:
            ending = _rounds(work, load, journal)
            book.last = ending.signal is None
    finally:
        journal.close()
    assessment, files, unwritten = judge_and_write(folder, out)
    outcome = Outcome(assessment, files, _exit(assessment, ending, unwritten), ending, unwritten)
    if ending.bug is not None:
        raise Bug(ending.bug, outcome)
    disk = ending.disk or book.disk
    if disk is not None:
        raise StorageError(disk)
    return outcome


def _rounds(work: _Work, load: Load, journal: Journal) -> Ending:
    """The load; once more as much where the test may look twice and that could settle what is open."""
    left, whole, settings = work.left, work.prepared.load, work.prepared.resolved.settings
    number, before = (0, None) if left is None else (left.number, left.used)
    journal.add("round", number=number, resumed=left is not None)
    ending = _conducted(work, load, journal, number, before)
    if not settings.double or not assess(work.folder).doubling_helps or not _fits_twice(ending, load.limits):
        return ending
    again = msgspec.structs.replace(whole, phases=_judged_only(whole.phases), seed=whole.seed + 1)
    journal.add("round", number=number + 1)
    return conduct(again, work.folder, work.clock, journal, work.listener, number=number + 1, before=ending)


def _conducted(work: _Work, load: Load, journal: Journal, number: int, before: Ending | None) -> Ending:
    """The plan, and what the test decides on while it runs."""
    resolved = work.prepared.resolved
    make = TESTS[resolved.settings.test].course
    if make is None:
        return conduct(load, work.folder, work.clock, journal, work.listener, number=number, before=before)
    names = tuple(t.name for t in resolved.targets)
    course = make(resolved.settings, names, list(work.prepared.criteria), work.folder)
    if work.left is not None:
        for told in work.left.told:
            course.hear(told)
        course.goes_on()

    def both(event: Began | Stopping | Report) -> None:
        course.hear(event)
        work.listener(event)

    return conduct(load, work.folder, work.clock, journal, both, number=number, before=before, course=course)


def _fits_twice(used: Ending, limits: Limits) -> bool:
    """Whether as much again stays within the hard stops."""
    pairs = ((used.requests, limits.requests), (used.tokens, limits.tokens), (used.usd, limits.usd))
    return all(stop is None or 2 * spent <= stop for spent, stop in pairs)


def _judged_only(phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
    return tuple(phase for phase in phases if phase.name == "hold")


def _exit(assessment: Assessment, ending: Ending, unwritten: str | None) -> Exit:
    """The exit code: a signal and our disk besides the verdict."""
    codes = [assessment.exit]
    if ending.signal is not None:
        codes.append(Exit(128 + ending.signal))
    if unwritten is not None:
        codes.append(Exit.UNUSABLE)
    return worst(codes)


def judge_and_write(
    folder: Path, out: Path | None, forms: Iterable[str] | None = None
) -> tuple[Assessment, tuple[Path, ...], str | None]:
    """Judge the run in `folder` and write every form to `out` (None: where its head says): the assessment, the files,
    or why they cannot be written. The folder keeps its own report.json.

    Of very many requests the csv takes as long as the judging, so it is written meanwhile; else what cannot be judged
    leaves no trace in `out`.
    """
    taken = take(folder)
    head, facts = taken.head, taken.columns.facts
    judge = functools.cache(lambda: judged(taken))
    files: tuple[Path, ...] = ()
    unwritten = None
    if len(facts) < LONG_FROM:
        judge()
    try:
        files = tuple(
            write_while_judged(
                out or Path(head.out), head.test, head.started, lambda: judge().document, facts, forms or FORMS
            )
        )
    except StorageError as error:
        unwritten = f"{error}. The run is kept: streamgauge report {head.id} --out DIR"
    assessment = judge()
    with contextlib.suppress(OSError):  # the folder's own copy can be made again from the samples beside it
        write_whole(folder / "report.json", ReportGenerator(assessment.document).json().encode())
    return assessment, files, unwritten


def head_of(prepared: Prepared, clock: Clock, out: Path, rerun: str, suite: str | None, limit: int) -> Head:
    """A run's head, as it is fixed before its first request. `limit`: descriptors."""
    resolved, load = prepared.resolved, prepared.load
    settings = resolved.settings
    started = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    redact = Redactor(resolved.secrets)
    return Head(
        id=new_id(started, settings.test), test=settings.test, suite=suite, version=__version__,
        python=platform.python_version(), platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        host=platform.node(), cpus=os.cpu_count() or 1, git=_git(), started=started, start_ns=clock.now(),
        environment=resolved.environment, kind=resolved.kind, preset=settings.preset,
        settings=_plain(settings), targets=[
            _told(found, target, redact)
            for found, target in zip((*resolved.targets, *resolved.controls), load.targets, strict=True)
        ],
        controls={t.name: t.control for t in resolved.targets if t.control is not None},
        only_controls=[t.name for t in resolved.controls], prices=load.limits.usd_per_mtok,
        criteria=list(prepared.criteria), confidence=prepared.confidence, doubles=settings.double,
        phases=list(load.phases), judged_phases=list(TESTS[settings.test].judged),
        spec_digest=resolved.digest, seed=load.seed, rerun=redact.command(rerun), out=str(out), descriptors_limit=limit,
        workers=workers_for(max(phase.streams for phase in load.phases)), notes=list(prepared.notes),
        calibration=prepared.calibration,
        inconclusive_passes=settings.inconclusive == "pass",
        silence=list(resolved.silence),
        paces={t.name: t.rpm for t in load.targets if t.rpm is not None}, probes=described(resolved),
        boot=boot_id(), compiled=part is not None,
        here=[t.name for t in load.targets if any(is_this_machine(a) for a, _ in t.addresses)],
    )  # fmt: skip


def _plain(settings: Settings) -> dict[str, object]:
    """Settings as JSON takes them; the arrivals of an open loop in words, a trace has a million times."""
    plain = dict(dataclasses.asdict(dataclasses.replace(settings, open_loop=None)))
    return {**plain, "open_loop": None if settings.open_loop is None else settings.open_loop.words}


def _told(found: ResolvedTarget, target: Target, redact: Redactor) -> dict[str, str | None]:
    return {
        "name": found.name,
        "url": redact.url(f"{found.origin}{found.path}"),
        "dialect": found.dialect,
        "model": found.model,
        "control": found.control,
        "addresses": ", ".join(address for address, _ in target.addresses),
        "proxy": None if target.proxy is None else target.proxy.shown,
    }


def _git() -> str | None:
    """The commit of the folder the run was started in, with a mark where it was changed; None outside of git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
