"""Connections that were lost amid an answer, other than by a time-out: together, or one by one at any age."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamgauge.columns import IntArray
from streamgauge.findings.cuts import died_alike
from streamgauge.findings.finding import Finding, TargetFacts
from streamgauge.sample import Outcome

LEAST = 3
TOGETHER_S = 1.0
"""Losses within so much of each other are one event."""
MOST_OF = 0.5


def lost_together(facts: TargetFacts) -> Iterator[Finding]:
    """Several streams were lost at one moment: a restart, a deployment, a machine or a network that went away."""
    hit = _lost(facts)
    group = _at_one_moment(facts, hit)
    if len(group) < LEAST:
        return
    at = float(np.median(facts.columns.end[group]) - facts.start_ns) / 1e9
    alive = int(((facts.columns.start[facts.rows] < facts.columns.end[group].max())
                 & (facts.columns.end[facts.rows] >= facts.columns.end[group].min())).sum())  # fmt: skip
    yield Finding(
        name="lost_together",
        target=facts.target,
        words=f"{len(group):,} streams were lost at one moment, {at:.1f} s into the run, of {alive:,} that were open",
        evidence=facts.basis(group, len(facts.counted), "streams", at_s=at, open_then=float(alive)),
        cause=(
            "a process, container or proxy that restarted (deployment, crash, memory limit, scaling in), or a "
            "broken link"
        ),
        check="deployments, restarts and out-of-memory kills at that time; a probe tells restarts ([probes.NAME])",
        remedy="let streams end before a process does (drain: stop taking new ones, wait for the open ones)",
        lost=len(group) / len(facts.counted),
    )  # fmt: skip


def lost_at_any_age(facts: TargetFacts) -> Iterator[Finding]:
    """Streams were lost one by one, at all ages: no time-out and no restart explains it."""
    hit = np.setdiff1d(_lost(facts), _at_one_moment(facts, _lost(facts)))
    if len(hit) < LEAST:
        return
    columns = facts.columns
    age = (columns.end[hit] - columns.start[hit]) / 1e9
    resets = facts.run.closings.of(facts.target)
    reset = int(resets.ended_by("reset").sum())
    yield Finding(
        name="lost_at_any_age",
        target=facts.target,
        words=(
            f"{len(hit):,} of {len(facts.counted):,} streams were lost amid the answer, at ages from "
            f"{age.min():.1f} to {age.max():.1f} s"
        ),
        evidence=facts.basis(
            hit, len(facts.counted), "streams", age_min_s=float(age.min()), age_max_s=float(age.max()),
            reset=float(reset) if len(resets) else None,
        ),
        cause="an unstable network on the way, or an app or proxy that closes when something behind it fails",
        check=(
            "the same from a machine next to the service: if none is lost there it is the network; else the "
            "app's logs"
        ),
        remedy=(
            "end a failed answer with an error event instead of closing; let clients go on where they were "
            "(Last-Event-ID)"
        ),
        lost=len(hit) / len(facts.counted),
    )  # fmt: skip


def _lost(facts: TargetFacts) -> IntArray:
    return np.setdiff1d(facts.ended_in_service(Outcome.DROPPED), died_alike(facts))


def _at_one_moment(facts: TargetFacts, hit: IntArray) -> IntArray:
    """The largest group of losses at one moment, where more were open and lost than chance brings together."""
    if len(hit) < LEAST:
        return hit[:0]
    order = hit[np.argsort(facts.columns.end[hit], kind="stable")]
    at = facts.columns.end[order] / 1e9
    sizes = np.searchsorted(at, at + TOGETHER_S, "right") - np.arange(len(at))
    first = int(np.argmax(sizes))
    group = order[first : first + int(sizes[first])]
    moment = facts.columns.end[group]
    alive = (facts.columns.start[facts.rows] < moment.max()) & (facts.columns.end[facts.rows] >= moment.min())
    spread = len(hit) * TOGETHER_S / max(float(at[-1] - at[0]), TOGETHER_S)  # as many would meet in a second by chance
    many = len(group) >= max(LEAST, MOST_OF * int(alive.sum())) and len(group) > 3 * spread
    return np.sort(group) if many or (len(group) == len(hit) and len(group) >= MOST_OF * int(alive.sum())) else hit[:0]
