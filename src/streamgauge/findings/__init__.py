"""Findings: what the Samples show beyond their numbers, each with evidence, likely cause, a way to check, and remedy.

Pure: columns in, findings out. A finding appears only with evidence, and a cause is only ever the likely one. To add a
rule, write a function from `TargetFacts` to Findings and put it into RULES, under the name that its findings have;
docs/proxies.md, or the page of its subject, says what was measured to set its thresholds. Findings come in the order of
RULES.
"""

from __future__ import annotations

from streamgauge.columns import Columns
from streamgauge.findings.connections import keep_alive_cut, no_keep_alive
from streamgauge.findings.cuts import IDLE, cut_at_equal_ages
from streamgauge.findings.finding import Basis, Finding, Rule, TargetFacts
from streamgauge.findings.flow import HOLDS_BACK, answer_at_once, compression_merges, lumps
from streamgauge.summary import Scope

__all__ = ["RULES", "Basis", "Finding", "Rule", "TargetFacts", "find"]

RULES: dict[str, Rule] = {
    "cut_at_equal_ages": cut_at_equal_ages,
    "answer_at_once": answer_at_once,
    "lumps": lumps,
    "compression_merges": compression_merges,
    "no_keep_alive": no_keep_alive,
    "keep_alive_cut": keep_alive_cut,
}
"""Name of a rule -> the rule."""


def find(columns: Columns, scope: Scope, *, start_ns: int) -> list[Finding]:
    """What the rules find in the judged phases, rule by rule, target by target. `start_ns`: when the run began."""
    every = [facts_of(columns, scope, target, start_ns) for target in scope.targets]
    return [finding for rule in RULES.values() for facts in every for finding in rule(facts)]


def facts_of(columns: Columns, scope: Scope, target: str, start_ns: int) -> TargetFacts:
    """One target's facts."""
    rows = columns.select(targets=[target], phases=scope.judged)
    return TargetFacts(target, columns, rows, _way(columns, target), start_ns)


def _way(columns: Columns, target: str) -> frozenset[str]:
    """The proxies that the kept answers and failures of a target name."""
    told = [one.answered_by or "" for one in columns.failures if one.target == target]
    for sample in columns.slowest:
        if sample.target == target:
            told += [sample.answered_by or "", sample.headers.get("server", ""), sample.headers.get("via", "")]
    words = " ".join(told).lower()
    return frozenset(name for name in {*HOLDS_BACK, *IDLE} if name.lower() in words)
