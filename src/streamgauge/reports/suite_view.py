"""A suite as people read it: what its page, its markdown and the terminal share. Nothing is escaped here."""

from __future__ import annotations

from dataclasses import dataclass

import streamgauge.reports.wording as say
from streamgauge.reports.escalation import TITLES
from streamgauge.reports.suite_document import Suite


@dataclass(frozen=True, slots=True)
class Row:
    """One test's line."""

    test: str
    verdict: str | None
    word: str
    """`fail`, `pass, partial`, `not run`."""
    severity: str
    headline: str
    next_step: str
    """Only where something is to be done."""
    requests: str
    took: str
    files: list[tuple[str, str]]
    """(form, name of the file beside this one), what people read first."""


def rows(suite: Suite) -> list[Row]:
    """A line a test, in the order in which they ran."""
    order = ("html", "md", "csv", "json")
    return [
        Row(
            test=say.plain(one.test, 40),
            verdict=one.verdict,
            word=(one.verdict or "not run") + (", partial" if one.partial else ""),
            severity=one.severity or "",
            headline=say.plain(one.headline, 400),
            next_step="" if one.verdict == "pass" else say.plain(one.next_step, 400),
            requests="" if one.requests is None else f"{one.requests:,}",
            took="" if one.seconds is None else say.seconds(one.seconds),
            files=[(form, say.plain(one.files[form], 200)) for form in order if form in one.files],
        )
        for one in suite.tests
    ]


def facts(suite: Suite) -> list[tuple[str, str]]:
    """What was run: (label, value), only what is known."""
    ran = sum(one.run is not None for one in suite.tests)
    found = [
        ("environment", suite.environment or ""),
        ("commit", suite.git or ""),
        ("tests", f"{ran} of {len(suite.tests)} run"),
        ("targets", ", ".join(suite.targets)),
        ("took", say.seconds(suite.seconds)),
        ("cost", say.money(suite.cost_usd).removeprefix("cost ")),
        ("preset", suite.preset),
        ("started", suite.started.replace("T", " ").replace("Z", " UTC")),
    ]
    return [(label, say.plain(value, 160)) for label, value in found if value]


def escalation(suite: Suite) -> tuple[str, str, list[str]] | None:
    """(title, whose failure asks for it, what to do in this order); None where no test failed."""
    if suite.severity is None:
        return None
    whose = ", ".join(one.test for one in suite.tests if one.severity == suite.severity)
    return TITLES[suite.severity], say.plain(whose, 120), [say.plain(one, 200) for one in suite.actions]


def waits(suite: Suite) -> list[tuple[str, str]]:
    """(before which test, how the wait went)."""
    told = [(one.test, one.settled.sentence) for one in suite.tests if one.settled is not None]
    return [(say.plain(test, 40), say.plain(sentence, 400)) for test, sentence in told]


def meaning(suite: Suite) -> str | None:
    """What an open or invalid verdict means; None where the verdict speaks for itself."""
    if suite.verdict == "inconclusive":
        return "Not everything that was asked for was decided; what is undecided or was not run is no pass."
    return say.SIGNS["invalid"].meaning if suite.verdict == "invalid" else None
