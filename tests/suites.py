"""Made suites: the index of several tests, as a command would leave it."""

from __future__ import annotations

from typing import Any

from streamgauge.reports.escalation import ACTIONS
from streamgauge.reports.suite_document import Answered, Entry, Settled, Suite


def entry(test: str, verdict: str | None = "pass", **changed: Any) -> Entry:
    """One test's line; a pass unless `changed` says otherwise."""
    stem = f"{test}_20261125T041500Z"
    ran = verdict is not None
    usual: dict[str, Any] = {
        "test": test, "verdict": verdict, "severity": "P2" if verdict == "fail" else None, "partial": False,
        "exit": {"pass": 0, "fail": 1, "inconclusive": 3, "invalid": 5, None: 3}[verdict],
        "headline": "all 9 gating criteria are met", "next_step": f"streamgauge run {test} --env staging --seed 7",
        "requests": 1_200 if ran else None, "seconds": 184.2 if ran else None, "cost_usd": 0.65 if ran else None,
        "run": f"20261125T041500Z-{test}-5c1f" if ran else None,
        "files": {form: f"{stem}.{form}" for form in ("md", "json", "csv", "html")} if ran else {},
        "settled": None,
    }  # fmt: skip
    return Entry(**{**usual, **changed})


def settled(well: bool = True) -> Settled:
    """A wait that went well, or did not."""
    late = Answered(target="claude-sonnet", before_ms=690.0, limit_ms=1480.0, after_ms=4210.0 if not well else 702.0,
                    outcome="ok", asked=42 if not well else 1, settled=well)  # fmt: skip
    told = (
        "every target answers as before, after 2.1 s" if well else
        "not as before after 60 s: claude-sonnet: first token after 4,210 ms (690 ms before any test). What follows "
        "may still feel the load of the test before"
    )  # fmt: skip
    return Settled(waited_s=2.1 if well else 60.0, settled=well, sentence=told, targets=[late])


def suite(tests: list[Entry], **changed: Any) -> Suite:
    """The index of `tests`."""
    severity = min((one.severity for one in tests if one.severity), default=None)
    usual: dict[str, Any] = {
        "id": "20261125T041455Z-suite-77aa", "verdict": "pass", "severity": severity, "exit": 0,
        "headline": f"all {len(tests)} tests pass", "next_step": "keep it: run it on every change",
        "actions": list(ACTIONS[severity]) if severity else [], "tests": tests, "warnings": [],
        "environment": "staging", "preset": "standard", "targets": ["gpt-4o-mini", "claude-sonnet", "gemini-flash"],
        "started": "2026-11-25T04:14:55Z", "ended": "2026-11-25T07:01:02Z", "seconds": 9_967.0, "cost_usd": 3.21,
        "version": "0.1.0", "git": "7f3a1c2d9e01", "rerun": "streamgauge run all --env staging --seed 7",
    }  # fmt: skip
    return Suite(**{**usual, **changed})


def failing() -> Suite:
    """One of everything: a fail of each kind of severity would say more, but one is what people meet."""
    stops = settled(well=False)
    return suite(
        [
            entry("ttft"),
            entry("concurrent", "fail", severity="P1", settled=settled(),
                  headline="claude-sonnet: 1 request in 34 fails, limit 1 in 200 (95 % sure it is above 1 in 52); "
                  "2 more criteria fail",
                  next_step="look in the report at what was not ok and at the slowest; their trace ids lead to your "
                  "own logs"),
            entry("endurance", "inconclusive", settled=settled(), headline="no probe, so nothing is known of memory",
                  next_step="about 4 more streams would settle it"),
            entry("memory", None, headline="memory needs a probe of the server: add [probes.app] to streamgauge.toml, "
                  "docs/probes.md says how", next_step="streamgauge run memory --env staging --seed 7"),
            entry("stress", "fail", severity="P0", partial=True, settled=stops,
                  headline="the service crashed at 150 users: connection refused from 81 s on"),
        ],
        verdict="fail", exit=1, next_step="stress: look in the report at what was not ok",
        headline="concurrent and stress fail; endurance is undecided; memory was not run; ttft passes",
        warnings=[f"before stress: {stops.sentence}"],
    )  # fmt: skip


def passing() -> Suite:
    """All well."""
    tests = ("ttft", "concurrent", "endurance", "memory", "stress")
    return suite([entry(test, settled=settled() if test != "ttft" else None) for test in tests])
