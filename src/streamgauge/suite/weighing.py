"""How the criteria of `stress` are met: capacity, errors of a level, crashes, recovery. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from streamgauge.capacity import Capacity, Level
from streamgauge.evidence import NOT_MEASURED, Answer, Evidence, Requirement
from streamgauge.strain import Crash, Recovery, amount, capacity_words, crash_words, worst_errors


def weigh_capacity(found: Capacity | None, ask: Requirement, unit: str) -> Evidence:
    """Passed where the lower bound meets it, failed where the upper one does not."""
    if found is None:
        return NOT_MEASURED
    carries = "" if found.value is None else "it carries "
    said = f"{carries}{capacity_words(found, unit)}; {amount(ask.limit, unit)} asked"
    n = sum(1 for _ in found.crossings[0].levels)
    passed = found.low is not None and ask.met_by(found.low)
    failed = found.high is not None and not ask.met_by(found.high)
    if found.value is None:
        failed = failed or not ask.met_by(found.crossings[0].levels[0])
    answer: Answer = "pass" if passed else "fail" if failed else "inconclusive"
    if answer == "inconclusive" and found.at_least and not ask.met_by(found.value or 0.0):
        said += "; climb higher (--concurrency) to tell"
    return Evidence(answer, value=found.value, low=found.low, high=found.high, n=n, said=said)


def weigh_errors(levels: Sequence[Level], ask: Requirement, confidence: float, unit: str = "users") -> Evidence:
    """The worst level: failed where it is surely above, passed where none can be."""
    worst = worst_errors(levels, confidence)
    if worst is None:
        return NOT_MEASURED
    value, low, high = worst
    most = max((one for one in levels if one.n), key=lambda one: one.errors / one.n)
    n = sum(one.n for one in levels)
    said = f"at worst {value * 100:.3g} % of {most.n:,} requests failed, at {amount(most.level, unit)}"
    if not value:
        said = f"none of {n:,} requests failed at any level"
    answer: Answer = "pass" if ask.met_by(high) else "inconclusive" if ask.met_by(low) else "fail"
    return Evidence(answer, value=value, low=low, high=high, n=n, said=said)


def weigh_crashes(crashes: Sequence[Crash], ask: Requirement, n: int, unit: str) -> Evidence:
    """Counted as observed."""
    if not n:
        return NOT_MEASURED
    said = crash_words(crashes[0], unit) if crashes else "it was there all the time"
    met = ask.met_by(float(len(crashes)))
    return Evidence("pass" if met else "fail", value=float(len(crashes)), n=n, said=said)


def weigh_recovery(recoveries: Sequence[Recovery], ask: Requirement) -> Evidence:
    """The longest one, as observed. One that did not come back fails where it was looked at for the limit at least."""
    lost = [one for one in recoveries if one.why == "not_back"]
    if lost:
        worst_seen = max(lost, key=lambda one: one.looked_s)
        said = f"{worst_seen.looked_s:.0f} s after {worst_seen.after} it was not back"
        if ask.met_by(worst_seen.looked_s):
            return Evidence("inconclusive", n=len(recoveries), why="not_measured", said=f"{said}; nobody looked longer")
        return Evidence("fail", n=len(recoveries), why="censored", said=said)
    known = [one for one in recoveries if one.seconds is not None]
    if not known:
        return NOT_MEASURED
    worst = max(known, key=lambda one: one.seconds or 0.0)
    value = worst.seconds or 0.0
    said = f"back {value:.1f} s after {worst.after}"
    return Evidence("pass" if ask.met_by(value) else "fail", value=value, n=len(known), said=said)
