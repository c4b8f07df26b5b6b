"""What became of several tests, as one document: the suite's verdict, its words, a line a test."""

from __future__ import annotations

from collections.abc import Sequence

import streamgauge.reports.wording as say
from streamgauge import __version__
from streamgauge.errors import worst
from streamgauge.reports.escalation import ACTIONS
from streamgauge.reports.suite_document import Entry, Suite
from streamgauge.reports.view import judged_requests
from streamgauge.suite.several import Ended
from streamgauge.verdict import Word


def index_of(
    ended: Sequence[Ended], *, suite: str, started: str, ended_at: str, seconds: float, rerun: str, lenient: bool
) -> Suite:
    """The index. started, ended_at: UTC, ISO 8601. lenient: what is undecided or not run counts as a pass."""
    tests = [_entry(one) for one in ended]
    verdict = min((_word(one) for one in tests), key=lambda word: say.RANK[word])
    severity = min((one.severity for one in tests if one.severity is not None), default=None)
    costs = [one.cost_usd for one in tests if one.run is not None]
    known = [cost for cost in costs if cost is not None]
    plans = [one.planned.plan for one in ended if one.planned.plan is not None]
    reports = [one.outcome.assessment.document for one in ended if one.outcome is not None]
    return Suite(
        id=suite,
        verdict=verdict,
        severity=severity,
        exit=worst(one.code for one in ended),
        headline=_headline(tests),
        next_step=_next_step(tests, rerun),
        actions=[] if severity is None else list(ACTIONS[severity]),
        tests=tests,
        warnings=_warnings(ended, tests, lenient=lenient),
        environment=next((plan.resolved.environment for plan in plans), None),
        preset=", ".join(dict.fromkeys(plan.resolved.settings.preset for plan in plans)),
        targets=list(dict.fromkeys(t.name for plan in plans for t in plan.resolved.targets)),
        started=started,
        ended=ended_at,
        seconds=round(seconds, 3),
        cost_usd=sum(known) if costs and len(known) == len(costs) else None,
        version=__version__,
        git=next((report.run.git for report in reports), None),
        rerun=rerun,
    )


def _word(entry: Entry) -> Word:
    """A test's part in the suite's verdict: what was not measured is no pass."""
    return entry.verdict or "inconclusive"


def _entry(one: Ended) -> Entry:
    why = None if one.why is None else " ".join(one.why.split())
    if one.outcome is None:
        return Entry(
            test=one.planned.test, verdict=None, severity=None, partial=False, exit=one.code,
            headline=why or "not run", next_step=one.next_step or one.planned.rerun, requests=None, seconds=None,
            cost_usd=None, run=None, files={}, settled=one.settled,
        )  # fmt: skip
    document = one.outcome.assessment.document
    run = document.run
    return Entry(
        test=one.planned.test, verdict=document.verdict, severity=document.severity,  # type: ignore[arg-type] # a word of three
        partial=document.partial, exit=one.code, headline=document.headline if why is None else why,
        next_step=one.next_step or document.next_step, requests=judged_requests(document),
        seconds=None if run.end_ns is None else (run.end_ns - run.start_ns) / 1e9, cost_usd=run.cost_usd, run=run.id,
        files={path.suffix[1:]: path.name for path in one.outcome.files}, settled=one.settled,
    )  # fmt: skip


_SAYS = {"fail": ("fails", "fail"), "invalid": ("is not valid", "are not valid"),
         "inconclusive": ("is undecided", "are undecided"), None: ("was not run", "were not run"),
         "pass": ("passes", "pass")}  # fmt: skip


def _headline(tests: Sequence[Entry]) -> str:
    """Which tests did what, the worst first: `stress fails; ttft and concurrent pass; memory was not run`."""
    found = {verdict: [one.test for one in tests if one.verdict == verdict] for verdict in _SAYS}
    if len(found["pass"]) == len(tests):
        return f"all {len(tests)} tests pass" if len(tests) > 2 else f"{_names(found['pass'])} pass"
    return "; ".join(f"{_names(names)} {_SAYS[verdict][len(names) > 1]}" for verdict, names in found.items() if names)


def _names(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _next_step(tests: Sequence[Entry], rerun: str) -> str:
    """The next step of the test that asks for one most."""
    if all(one.verdict == "pass" for one in tests):
        return f"keep it: run it on every change; repeat this one with {rerun}"
    first = min(tests, key=lambda one: (say.RANK[_word(one)], one.severity or "P9", one.verdict is None))
    return f"{first.test}: {first.next_step}"


def _warnings(ended: Sequence[Ended], tests: Sequence[Entry], *, lenient: bool) -> list[str]:
    out = [f"before {one.test}: {one.settled.sentence}" for one in tests if one.settled and not one.settled.settled]
    out += [f"{one.planned.test}: {one.outcome.unwritten}" for one in ended if one.outcome and one.outcome.unwritten]
    if lenient and any(one.verdict in (None, "inconclusive") for one in tests):
        out.append("what is undecided or could not start counts as a pass by --inconclusive pass")
    return out
