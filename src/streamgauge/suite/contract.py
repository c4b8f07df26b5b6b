"""What a test is, and what one that looks further than its requests finds out.

Rules: a test is a plan before the run, and after it what it sees in the run folder: pure functions of what was asked
and what was recorded, so that a run can be judged again, offline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from streamgauge.columns import Columns
from streamgauge.control import Report
from streamgauge.evidence import Weigh
from streamgauge.plan import Phase
from streamgauge.run import Began, Course, Stopping
from streamgauge.sample import Reading
from streamgauge.spec.presets import Settings
from streamgauge.suite.folder import Head, Story
from streamgauge.summary import Scope
from streamgauge.verdict import Criterion

Shape = Callable[[Settings, tuple[str, ...], tuple[str, ...]], tuple[Phase, ...]]
"""(settings, targets, controls) to the phases of the plan."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A whole run, as a test looks at it."""

    head: Head
    story: Story
    columns: Columns
    scope: Scope
    readings: list[Reading]
    """Of the probes, in order of time."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a test found out beyond what every test tells."""

    weigh: Mapping[str, Weigh] = field(default_factory=dict)
    """Metrics of kind `run` by name: how each is held against a requirement."""
    sections: Mapping[str, msgspec.Struct | None] = field(default_factory=dict)
    """Parts of the Document, by field."""
    doubts: tuple[str, ...] = ()
    """Why the run is INVALID, beyond what every run is held against."""


class Climbing(Course, Protocol):
    """A course that hears what happens in the run."""

    def hear(self, event: Began | Stopping | Report) -> None:
        """What the run told."""

    def goes_on(self) -> None:
        """What was heard so far is of before the run was cut off."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A run that was cut off, as a test looks at it to say what is left of it."""

    head: Head
    story: Story
    """As far as it was written."""
    judged: Mapping[str, int]
    """Target -> its requests of the judged phases that ended (whatever the outcome, less those we ended ourselves)."""


@dataclass(frozen=True, slots=True)
class Test:
    """One test: its plan, and what it is about."""

    phases: Shape
    subject: str | None
    """The metric without which a pass says nothing."""
    judged: tuple[str, ...] = ("hold",)
    """The phases whose requests are judged."""
    collects: bool = False
    """Whether servers are asked to collect their garbage for snapshots: it stops them for a moment, so not where
    answers are timed."""
    needs_probe: bool = False
    """Whether it is about the server's memory: without a probe that reads it does not start."""
    see: Callable[[Seen], Told] | None = None
    """None: it judges its requests alone."""
    forgiven: tuple[str, ...] = ("warmup",)
    """Phases whose failures do not count towards the stop rule."""
    decides: Callable[[Settings, str, float], bool] | None = None
    """Whether a run whose hold is planned to last so many seconds can decide about a metric; where it cannot, its
    criteria are shown and hold back no pass. None: the number of requests alone tells."""
    needs: Callable[[Settings], None] | None = None
    """Raises UsageError where the test cannot start as it is asked for."""
    careful: bool = False
    """Whether production is spared unless the spec allows it: it wears the service down or out."""
    later: Shape | None = None
    """The most that may follow the plan, where the test decides on phases while it runs."""
    course: Callable[[Settings, tuple[str, ...], list[Criterion], Path], Climbing] | None = None
    """Who decides on them: of settings, judged targets, criteria and the run's folder."""
    rest: Callable[[Cut], tuple[Phase, ...] | str] | None = None
    """The phases that are left of a run that was cut off, none where nothing is, or why it cannot go on."""
    lost: str = "what it judges was cut off and cannot be put together from two pieces"
    """Why a run of it cannot go on, where `rest` is None."""
