"""`stress`: how many users it carries, what happens beyond, and whether it comes back.

Levels rise without a drain in between; each is reached (ramp) and held. The level that must be within the criteria is
the judged phase `hold`, the others are `stress`. Then, decided from what was seen: recovery at a low level, finer steps
around the knee, a spike from nothing, recovery again. In open loop the levels are arrivals a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamgauge.arrivals import Rate
from streamgauge.capacity import Level, Limit, next_level, rises
from streamgauge.clock import S
from streamgauge.control import Report
from streamgauge.errors import UsageError
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.run import Began, Stopping
from streamgauge.sample import GOOD, Outcome
from streamgauge.spec.presets import Climb, Settings
from streamgauge.suite.crashes import GONE, RESTART, replacements, restarts
from streamgauge.suite.folder import readings
from streamgauge.suite.ttft import warmup
from streamgauge.verdict import Criterion

LEVELS = ("hold", "stress")
"""Phases in which a level is held."""
FORGIVEN = ("warmup", "recovery", "settle")
"""Phases whose failures stop nothing: they follow an overload."""
LOW = 5
"""Users during recovery; a twentieth of the asked rate in open loop."""
RAMP_S, STARTS_PER_S = 1.0, 100.0
_LEFT_OUT = frozenset({Outcome.CANCELLED, Outcome.CLIENT_LIMIT})


def needs(settings: Settings) -> None:
    """UsageError where the climb cannot be as it is asked for."""
    load = settings.open_loop
    if load is not None and (not isinstance(load, Rate) or load.course):
        raise UsageError("stress climbs to a rate by itself; give --rate as one number, and no trace, ramp or spike")
    if settings.requests is not None:
        raise UsageError(
            "stress holds each level for a time, not for a number of requests; give --duration instead of --requests"
        )


def phases(settings: Settings, targets: tuple[str, ...], controls: tuple[str, ...]) -> tuple[Phase, ...]:
    """Warm-up, every level reached and held, and the first recovery. Controls are not asked: they would add load."""
    climb = climb_of(settings)
    plan = [*warmup(settings, targets)]
    before = 0.0
    for level in climb.levels:
        plan += step(settings, targets, before, level)
        before = level
    return (*plan, recovery(settings, targets))


def later(settings: Settings, targets: tuple[str, ...], controls: tuple[str, ...]) -> tuple[Phase, ...]:
    """The most that may follow: every finer step, the spike, and two more recoveries."""
    climb = climb_of(settings)
    top = climb.levels[-1]
    finer = [phase for _ in range(climb.finer) for phase in step(settings, targets, 0.0, top)]
    return (*finer, *spike(settings, targets))


def climb_of(settings: Settings) -> Climb:
    """What stress climbs; every stress test has one."""
    assert settings.climb is not None
    return settings.climb


def step(settings: Settings, targets: tuple[str, ...], before: float, level: float) -> list[Phase]:
    """One level reached and held. The phase is `hold` where it is the level that must be within the criteria."""
    climb = climb_of(settings)
    spread = round(max(min(RAMP_S, climb.hold_s / 2), abs(level - before) / STARTS_PER_S) * S)
    name = "hold" if level == climb.asked else "stress"
    users = 0 if settings.open_loop is not None else round(level)
    return [
        Phase("ramp", (_lane(settings, targets, level, spread),), users, duration_ns=spread),
        Phase(
            name,
            (_lane(settings, targets, level),),
            users,
            duration_ns=round(climb.hold_s * S),
            think_ns=round(settings.think_time_s * S),
        ),
    ]


def recovery(settings: Settings, targets: tuple[str, ...], *, settles: bool = False) -> Phase:
    """A few users, to see when all is as before. `settles`: the next phase begins from nothing."""
    climb = climb_of(settings)
    level = climb.asked / 20 if settings.open_loop is not None else min(LOW, climb.levels[-1])
    users = 0 if settings.open_loop is not None else round(level)
    lanes = (_lane(settings, targets, level),)
    name = "settle" if settles else "recovery"
    seconds = min(1.0, climb.recovery_s) if settles else climb.recovery_s
    return Phase(name, lanes, users, duration_ns=round(seconds * S), settles=settles)


def spike(settings: Settings, targets: tuple[str, ...]) -> tuple[Phase, ...]:
    """From nothing to the asked level at once, and recovery."""
    climb = climb_of(settings)
    level = min(climb.asked, climb.levels[-1])
    users = 0 if settings.open_loop is not None else round(level)
    rush = Phase("spike", (_lane(settings, targets, level),), users, duration_ns=round(climb.spike_s * S))
    return (recovery(settings, targets, settles=True), rush, recovery(settings, targets))


def _lane(settings: Settings, targets: tuple[str, ...], level: float, spread_ns: int = 0) -> Lane:
    load = settings.open_loop
    if load is not None:
        assert isinstance(load, Rate)
        return Lane(targets, settings.prompts, Rate(level, load.cap, load.arrivals))
    return Lane(targets, settings.prompts, Hold(max(1, round(level)), spread_ns))


def limits_of(criteria: Sequence[Criterion]) -> tuple[Limit, ...]:
    """What a level must keep to be within: the test's quantiles of TTFT, and its error rate."""
    found = []
    for one in criteria:
        scoped = one.phase is not None or one.prompt is not None or one.advisory
        stat = one.stat or ""
        if one.metric == "ttft_ms" and stat.startswith("p") and one.op[0] == "<" and not scoped:
            found.append(Limit(one.name, "ttft", one.limit, float(stat[1:]) / 100))
        elif one.metric in ("level_error_rate", "error_rate") and one.op[0] == "<" and 0 < one.limit < 1 and not scoped:
            found.append(Limit(one.name, "errors", one.limit))
    return tuple(dict.fromkeys(found))


@dataclass
class Climber:
    """Decides on the phases that the plan leaves open, from what has ended so far. Holds the state of one run."""

    settings: Settings
    targets: tuple[str, ...]
    limits: tuple[Limit, ...]
    steps: list[tuple[float, int, int]] = field(default_factory=list)
    """(level, from, until ns) of each level held so far."""
    current: tuple[float, int, int] | None = None
    ended: list[tuple[int, float | None, bool]] = field(default_factory=list)
    """(due ns, TTFT in ms, good) of each request in a level, or on the way there."""
    lost_ns: list[int] = field(default_factory=list)
    """When connections were lost or refused."""
    stage: str = "finer"
    """What comes next: finer, spike, end."""
    finer: int = 0
    crashed: bool = False
    folder: Path | None = None
    """The run's folder, where probes leave their readings."""
    now_ns: int = 0
    looked_ns: int = 0
    since_ns: int = 0
    """Where the run goes on: when it had been cut off."""

    def hear(self, event: Began | Stopping | Report) -> None:
        """Note when levels were held, and what ended in them."""
        if isinstance(event, Began):
            if self.steps and self.steps[-1][2] > event.at_ns:
                self.steps[-1] = (*self.steps[-1][:2], event.at_ns)
            self.current = (level_of(event.phase), event.at_ns, event.at_ns + (event.phase.duration_ns or 0))
            if event.phase.name in LEVELS:
                self.steps.append(self.current)
        elif isinstance(event, Report):
            self.now_ns = max(self.now_ns, event.at_ns)
            for brief in event.ended:
                self.lost_ns += [brief.end_ns] if brief.outcome in GONE and brief.target in self.targets else []
                if brief.phase in ("ramp", *LEVELS) and brief.target in self.targets and brief.outcome not in _LEFT_OUT:
                    ttft = None if brief.ttft_ns is None else brief.ttft_ns / 1e6
                    self.ended.append((brief.due_ns, ttft, brief.outcome in GOOD))

    def ahead(self, why: str | None) -> tuple[Phase, ...] | None:
        """What follows: after a level that was given up its recovery, else the next finer step, the spike, the end."""
        if why is not None:
            if self.current is not None and self.current not in self.steps:  # given up on its way there: it has failed
                self.steps.append(self.current)
            self.crashed = self.crashed or str(Outcome.CONNECT_REFUSED) in why or RESTART in why
            if self.stage == "finer" and self.finer:
                self.stage = "spike"
            return (recovery(self.settings, self.targets),)
        if self.crashed:
            return ()
        if self.stage == "finer":
            level = self._next() if self.finer < climb_of(self.settings).finer else None
            if level is not None:
                self.finer += 1
                before = 0.0 if self.finer == 1 else self.steps[-1][0]
                return tuple(step(self.settings, self.targets, before, level))
            self.stage = "spike"
        if self.stage == "spike":
            self.stage = "end"
            return spike(self.settings, self.targets)
        return ()

    def goes_on(self) -> None:
        """Count the finer steps that were taken before the run was cut off."""
        self.finer = sum(level not in climb_of(self.settings).levels for level, _, _ in self.steps)
        self.since_ns = self.now_ns

    def alarm(self) -> str | None:
        """A restart that a probe saw, looked for once a second."""
        if self.folder is None or self.crashed or self.now_ns - self.looked_ns < S:
            return None
        self.looked_ns = self.now_ns
        now = [one for one in readings(self.folder) if one.at_ns > self.since_ns]
        return next((one.words for one in (*restarts(now, 0), *replacements(now, self.lost_ns, 0))), None)

    def _next(self) -> float | None:
        return next_level(self.seen(), self.limits, whole=self.settings.open_loop is None)

    def seen(self) -> list[Level]:
        """The levels held so far. What is still open is not among them: it is no failure yet."""
        import numpy as np

        out, open_loop = [], self.settings.open_loop is not None
        for level, since, until in self.steps:
            mine = sorted((one for one in self.ended if since <= one[0] < until), key=lambda one: one[0])
            values = [math.inf if ttft is None else ttft for _, ttft, good in mine if ttft is not None or not good]
            waits = np.array(values, np.float64)
            failed = sum(1 for _, _, good in mine if not good)
            out.append(Level(level, waits, len(mine), failed, rising=open_loop and rises(waits)))
        return out


def level_of(phase: Phase) -> float:
    """Users, in open loop arrivals a second."""
    return float(phase.level) if phase.rate is None else phase.rate


def climber(settings: Settings, targets: tuple[str, ...], criteria: list[Criterion], folder: Path) -> Climber:
    """Who decides on the phases of one run."""
    import scipy.optimize  # noqa: F401  (takes a second to import: before the load, not between two of its phases)

    return Climber(settings, targets, limits_of(criteria), folder=folder)
