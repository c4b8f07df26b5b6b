"""Findings: what a run shows beyond its numbers, each with evidence, likely cause, a way to check, and remedy.

Pure: facts in, findings out. A finding appears only with evidence, and a cause is only ever the likely one. To add a
rule, write a function from `TargetFacts` (or, where it looks at several targets or at the server, from `RunFacts`) to
Findings, put it into the table below under the name that its findings have, and describe it in docs/findings.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from streamgauge.findings.caching import cached, not_cached
from streamgauge.findings.capacity import collapses, crashed, scale_out, sheds, slows_within
from streamgauge.findings.connections import keep_alive_cut, no_keep_alive
from streamgauge.findings.cuts import cut_at_equal_ages
from streamgauge.findings.failures import gave_up, not_let_in, provider_errors, server_errors, slow_failures
from streamgauge.findings.finding import Basis, Finding, Rule, RunFacts, RunRule, TargetFacts
from streamgauge.findings.flow import answer_at_once, compression_merges, lumps
from streamgauge.findings.instances import uneven_instances
from streamgauge.findings.limits import limit_at_once, rate_limited, requests_run_out_first
from streamgauge.findings.losses import lost_at_any_age, lost_together
from streamgauge.findings.memory import (
    collector_sawtooth,
    left_by_requests,
    memory_grows,
    memory_limit_near,
    memory_not_given_back,
    outside_heap,
)
from streamgauge.findings.network import connections_refused, connects_again, far_away
from streamgauge.findings.probes import connections_kept, cpu_busy, gauge_rises, restart_seen
from streamgauge.findings.provider import app_adds, cheaper_target, faster_target, provider_slow
from streamgauge.findings.signs import errors_rising, pace_falling, ttft_rising
from streamgauge.findings.steps import database_slow, slower_under_load, step_slow

__all__ = ["RULES", "RUN_RULES", "TARGET_RULES", "Basis", "Finding", "Found", "RunFacts", "TargetFacts", "find"]

TARGET_RULES: dict[str, Rule] = {
    # answers that were lost
    "cut_at_equal_ages": cut_at_equal_ages,
    "lost_together": lost_together,
    "lost_at_any_age": lost_at_any_age,
    "server_errors": server_errors,
    "provider_errors": provider_errors,
    "not_let_in": not_let_in,
    "rate_limited": rate_limited,
    "requests_run_out_first": requests_run_out_first,
    "limit_at_once": limit_at_once,
    "connections_refused": connections_refused,
    "gave_up": gave_up,
    "slow_failures": slow_failures,
    # signs
    "ttft_rising": ttft_rising,
    "errors_rising": errors_rising,
    "pace_falling": pace_falling,
    # waits
    "answer_at_once": answer_at_once,
    "lumps": lumps,
    "compression_merges": compression_merges,
    "database_slow": database_slow,
    "step_slow": step_slow,
    "slower_under_load": slower_under_load,
    "uneven_instances": uneven_instances,
    "no_keep_alive": no_keep_alive,
    "keep_alive_cut": keep_alive_cut,
    "connects_again": connects_again,
    "far_away": far_away,
    # caching
    "not_cached": not_cached,
    "cached": cached,
}
"""Name of a rule -> the rule, for each judged target by itself."""

RUN_RULES: dict[str, RunRule] = {
    "provider_slow": provider_slow,
    "app_adds": app_adds,
    "faster_target": faster_target,
    "cheaper_target": cheaper_target,
    # the server, by its probes
    "memory_grows": memory_grows,
    "left_by_requests": left_by_requests,
    "memory_not_given_back": memory_not_given_back,
    "outside_heap": outside_heap,
    "memory_limit_near": memory_limit_near,
    "connections_kept": connections_kept,
    "gauge_rises": gauge_rises,
    "restart_seen": restart_seen,
    "cpu_busy": cpu_busy,
    "collector_sawtooth": collector_sawtooth,
    # capacity and long lives
    "crashed": crashed,
    "sheds": sheds,
    "collapses": collapses,
    "scale_out": scale_out,
    "slows_within": slows_within,
}
"""The same for rules that look at the whole run."""

RULES = (*TARGET_RULES, *RUN_RULES)
"""Every name by which a finding can be silenced."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the rules found."""

    findings: list[Finding]
    """What costs most first (`Finding.place`), equals in the order of the tables."""
    silenced: dict[str, int]
    """Each silenced rule, and how many findings it would have had."""


def find(run: RunFacts, silence: Collection[str] = ()) -> Found:
    """What the rules find in the judged phases, less those that are not to be told."""
    every = [run.of(target) for target in run.scope.targets]
    found = [finding for rule in TARGET_RULES.values() for facts in every for finding in rule(facts)]
    found += [finding for rule_ in RUN_RULES.values() for finding in rule_(run)]
    quiet = {name: sum(one.name == name for one in found) for name in silence}
    return Found(sorted((one for one in found if one.name not in quiet), key=lambda one: one.place), quiet)
