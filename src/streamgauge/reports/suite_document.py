"""Several tests as one document: what the index page of a suite is rendered from.

Rules: as of `document`; here stands what was decided and where it is told at length, never a number that a test's own
report does not hold. A test that was not run has no verdict. `schema` names the version of this shape.
"""

from __future__ import annotations

import msgspec

from streamgauge.verdict import Severity, Word

SUITE_SCHEMA = "streamgauge.suite/1"


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """One target alone, before and after it was under load."""

    target: str
    before_ms: float | None
    """TTFT of the service (from sent) before any test: the median of a few single requests; null: it gave no token."""
    limit_ms: float | None
    """What counts as "as before"."""
    after_ms: float | None
    """The last answer's; null where that gave no token."""
    outcome: str | None
    """How the last request ended; null where none was sent, since nothing was known before."""
    asked: int
    """Single requests that were sent while it was waited for."""
    settled: bool


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """The wait before a test, until the targets had got over the one before."""

    waited_s: float
    settled: bool
    """Whether every target answered as before; the next test began in any case."""
    sentence: str
    targets: list[Answered]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One test's line."""

    test: str
    verdict: Word | None
    """null: it was not run, or ended without a report."""
    severity: Severity | None
    partial: bool
    exit: int
    """The exit code it would have alone."""
    headline: str
    """What was found; why it was not run."""
    next_step: str
    """The next command or act; how to run it."""
    requests: int | None
    """Judged ones that ended."""
    seconds: float | None
    cost_usd: float | None
    run: str | None
    """Id of its run; null where none began."""
    files: dict[str, str]
    """Form to the name of the report's file, beside this one."""
    settled: Settled | None
    """The wait before it; null before the first."""


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """Several tests of one command."""

    schema: str = SUITE_SCHEMA
    id: str
    verdict: Word
    """Over all tests, the worst first: fail, invalid, inconclusive (also where one was not run), pass."""
    severity: Severity | None
    """The worst of the failed tests'."""
    exit: int
    headline: str
    next_step: str
    actions: list[str]
    """What the strategy asks for at this severity, in its order; empty without one."""
    tests: list[Entry]
    warnings: list[str]
    environment: str | None
    preset: str
    targets: list[str]
    started: str
    """UTC, ISO 8601."""
    ended: str
    seconds: float
    cost_usd: float | None
    """Of all tests; null where that of any is not known."""
    version: str
    git: str | None
    rerun: str
    """The command that repeats all of it."""
