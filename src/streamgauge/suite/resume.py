"""A run that was cut off (a crash, a kill, Ctrl-C) goes on where that is honest, in its own folder and by its own plan.

Rules: what is judged in the end is what the plan wanted, no more and no less; what was open when it was cut off is lost
and asked again; the stretch without load is a phase of its own (`gap`); the report says that and when it went on. It
goes on only in the same start of the same machine, since the times of two starts cannot be put on one clock, and only
by the plan and the criteria that it began with.
"""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from streamgauge.clock import Clock, S, boot_id
from streamgauge.control import Brief, Report
from streamgauge.errors import UsageError
from streamgauge.guard import Guard, Limits
from streamgauge.journal import Journal
from streamgauge.plan import Phase
from streamgauge.run import Began, Ending
from streamgauge.sample import NOT_JUDGED, AuditTick, Sample
from streamgauge.suite.contract import Cut
from streamgauge.suite.folder import GAP, READINGS, Head, Story, read_head, read_story, records
from streamgauge.suite.prepare import Prepared
from streamgauge.suite.tests import TESTS

QUIET_NS = 2 * S
"""A worker outlives its parent by 1 s at most, and writes until then."""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a run."""

    head: Head
    phases: tuple[Phase, ...]
    """None: everything that was planned had ended."""
    cut_ns: int
    number: int
    """Of the next round of sample files."""
    used: Ending
    """What counts towards the hard stops."""
    seed: int
    told: tuple[Began | Report, ...]
    """What the run told so far, for a test that decides on phases by it."""

    def words(self) -> str:
        """What is left: `warmup, hold (112 requests)`."""
        told = []
        for phase in self.phases:
            length = None if phase.duration_ns is None else f"{phase.duration_ns / S:,.0f} s"
            count = None if phase.requests is None else f"{phase.requests:,} requests"
            told.append(f"{phase.name} ({', '.join(filter(None, (count, length)))})")
        return ", ".join(told) or "all of its requests had ended, so only the verdict is missing"


def left_of(folder: Path, clock: Clock) -> Left:
    """What is left of the run in `folder`. UsageError where it cannot honestly go on, with the way to start again."""
    head = read_head(folder)
    Journal(folder).close()  # tells a run that still goes on
    story = read_story(folder)
    again = f"start it again: {head.rerun}"
    why = _why_not(head, story, clock.now())
    if why is not None:
        raise UsageError(f"{head.id} cannot go on: {why}; {again}")
    _wait_for_workers(folder, clock)
    judged, guard, briefs, last = _so_far(folder, head)
    story = read_story(folder)
    rest = TESTS[head.test].rest
    assert rest is not None
    phases = rest(Cut(head, story, judged))
    if isinstance(phases, str):
        raise UsageError(f"{head.id} cannot go on: {phases}; {again}")
    numbers = [int(path.name.split("-")[1]) for path in folder.glob("samples-*.sgs")]
    return Left(
        head=head, phases=phases, cut_ns=max(last, story.end_ns or 0), number=max(numbers, default=-1) + 1,
        used=Ending(None, False, requests=guard.requests, tokens=guard.tokens, usd=guard.usd),
        seed=head.seed + max(story.rounds, 1) - 1, told=_told(story, briefs, last),
    )  # fmt: skip


def _why_not(head: Head, story: Story, now: int) -> str | None:
    """Why a run cannot go on, whatever is left of it."""
    test = TESTS.get(head.test)
    if test is None or test.rest is None:
        return f"{head.test}: {test.lost if test is not None else 'this streamgauge does not know the test'}"
    if story.finished and story.signal is None and story.worker_died is None:
        told = f"it ended by itself ({story.stopped_by})" if story.stopped_by else "it ran to its end"
        return f"{told}; its report: streamgauge report {head.id}"
    if head.host != platform.node():
        return f"it began on {head.host}, whose clock is another one"
    if head.boot != boot_id() or now < head.start_ns:
        return "this machine was started anew since, and its clock with it"
    return None


def _wait_for_workers(folder: Path, clock: Clock) -> None:
    """Let those of a killed parent end: they see to it within a second."""
    ages = [clock.wall() - path.stat().st_mtime_ns for path in folder.glob("samples-*.sgs")]
    if ages and min(ages) < QUIET_NS:
        clock.sleep_until(clock.now() + QUIET_NS - max(min(ages), 0))


def _so_far(folder: Path, head: Head) -> tuple[Counter[str], Guard, list[Brief], int]:
    """Judged requests that ended, by target; what was used; what ended, where the test decides by it; when the last
    record was made."""
    judged: Counter[str] = Counter()
    inputs: dict[str, int] = {}
    guard = Guard(Limits(usd_per_mtok=head.prices, input_tokens=inputs), frozenset(), ())
    last = head.start_ns
    briefs: list[Brief] = []
    keeps = TESTS[head.test].course is not None
    for record in records(folder):
        if isinstance(record, AuditTick):
            last = max(last, record.at_ns)
        if not isinstance(record, Sample):
            continue
        last = max(last, record.end_ns)
        judged[record.target] += record.phase in head.judged_phases and record.outcome not in NOT_JUDGED
        first = record.first_token_ns
        brief = Brief(
            record.target, record.phase, record.outcome, record.http_status,
            None if first is None else first - record.due_ns, None, record.output_tokens, record.input_tokens,
            record.text_events, None, record.end_ns, record.due_ns,
        )  # fmt: skip
        guard.saw(brief)
        briefs += [brief] if keeps else []
    return judged, guard, briefs, last


def _told(story: Story, briefs: list[Brief], at_ns: int) -> tuple[Began | Report, ...]:
    phases = [one for one in story.phases if one.name not in ("drain", GAP)]
    began = [Began(Phase(one.name, (), one.level, one.end_ns - one.start_ns), one.start_ns) for one in phases]
    return (*began, Report(worker=0, at_ns=at_ns, open_streams=0, ended=briefs))


def same_plan(prepared: Prepared, head: Head) -> None:
    """UsageError where the plan of today is not the one that the run began with."""
    targets = [(t.name, t.dialect, t.model) for t in prepared.load.targets]
    parts = {
        "the spec": (prepared.resolved.digest, head.spec_digest),
        "the targets": (targets, [(t["name"], t["dialect"], t["model"]) for t in head.targets]),
        "the phases of its plan": (list(prepared.load.phases), head.phases),
        "the criteria": (list(prepared.criteria), head.criteria),
    }
    changed = next((what for what, (now, then) in parts.items() if now != then), None)
    if changed is not None:
        why = f"{changed} changed since it began, so two plans would be mixed"
        raise UsageError(f"{head.id} cannot go on: {why}; start it again: {head.rerun}")


def take_up(folder: Path, cut_ns: int, clock: Clock) -> Journal:
    """The run's journal, open again, with the line that says it goes on. UsageError where the run still goes on."""
    path = folder / "journal.jsonl"
    journal = Journal(folder)
    whole = path.read_bytes()
    if not whole.endswith(b"\n"):  # torn: the parent was killed while it wrote
        with path.open("r+b") as file:
            file.truncate(whole.rfind(b"\n") + 1)
    at = datetime.fromtimestamp(clock.wall() // S, UTC).isoformat().replace("+00:00", "Z")
    journal.add("resume", cut_ns=cut_ns, at_ns=clock.now(), at=at)
    return journal


def next_readings(folder: Path) -> Path:
    """Where the probes write now: each part of a run has its own file."""
    stem, taken = Path(READINGS), len(list(folder.glob(f"{Path(READINGS).stem}*")))
    return folder / (f"{stem.stem}-{taken}{stem.suffix}" if taken else READINGS)
