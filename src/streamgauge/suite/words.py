"""The report's words: what was found, what it means to users, what to do next, what to mind. Nothing is judged here.

Rules: one line each. The impact says nothing that the headline has said. The next step is a command wherever one helps.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamgauge.columns import Columns, population
from streamgauge.compare import Comparison
from streamgauge.metrics import METRICS
from streamgauge.plan import Hold
from streamgauge.sample import GOOD, Outcome
from streamgauge.sentences import one_in
from streamgauge.slices import TOLERATED
from streamgauge.spans import span
from streamgauge.suite.folder import Head, Story
from streamgauge.suite.undecided import settled_by
from streamgauge.summary import Scope, Summary
from streamgauge.verdict import Criterion, Decision, Judged, doubts_of

_FAILED_AT_ONCE = (
    frozenset(Outcome)
    - GOOD
    - {Outcome.CONNECT_TIMEOUT, Outcome.FIRST_TOKEN_TIMEOUT, Outcome.STALL_TIMEOUT, Outcome.TOTAL_TIMEOUT, Outcome.SHED}
)
"""Whoever got one of these and no token failed; who ran into a time-out, or was never started, waited."""
_OF_THE_TARGET = frozenset(("--config", "--env", "--url", "--dialect", "--model", "-H", "--header", "--set"))
"""Flags that say what is measured, not how hard."""
_AFTER = {
    "crashes": "read the service's last words and exit code (137: killed, mostly for memory) at the time of the crash",
    "memory_growth_mb_per_h": "take a heap snapshot early and one late under the same load: what grew between is kept",
    "memory_unbounded": "take a heap snapshot early and one late under the same load: what grew between is kept",
    "memory_cleanup": "take a heap snapshot before the burst and one after it, and look at what stayed",
}
"""What to do next where it failed, in place of the usual."""


@dataclass(frozen=True, slots=True)
class Words:
    """What the report says in words of its own."""

    head: Head
    story: Story
    judged: list[Judged]
    decision: Decision
    comparisons: list[Comparison]
    columns: Columns
    set_up: str | None

    def headline(self) -> str:
        """One line: what was found."""
        text = self._verdict_line()
        adds = [c.sentence for c in self.comparisons if c.kind == "control" and c.stat == "p50" and c.sentence]
        return ". ".join([text, *adds[:1]]) if adds else text

    def _verdict_line(self) -> str:
        word = self.decision.word
        if self.set_up is not None:
            answer = next((f.message for f in self.columns.failures if f.message), None)
            told = f": {answer.partition('; it begins: ')[0][:200]}" if answer else ""
            return f"the set-up is wrong, not the service{told} (every request ended in {self.set_up})"
        binding = [one for one in self.judged if not one.advisory]
        if word == "fail":
            # A crash is told before what it made worse.
            failed = sorted((one for one in binding if one.verdict == "fail"), key=lambda one: one.metric != "crashes")
            first, *others = failed
            more = f"; {len(others)} more {'criterion fails' if len(others) == 1 else 'criteria fail'}"
            return self._about(first) + (more if others else "")
        if word == "invalid":
            doubts = doubts_of(self.judged)
            return f"the measurement does not stand: {doubts[0] if doubts else self.story.worker_died or 'see below'}"
        if word == "pass":
            met = sum(1 for one in binding if one.gating)
            how_many = {1: "the gating criterion is", 2: "both gating criteria are"}
            said = f"{how_many.get(met, f'all {met} gating criteria are')} met"
            found = next((one for one in binding if one.gating and METRICS[one.metric].kind == "run"), None)
            return said if found is None else f"{self._about(found)}; {said}"
        if self.story.partial:
            return f"the run ended early ({self.story.stopped_by or 'not finished'}): a partial run never passes"
        held = [one for one in binding if one.gating and one.verdict == "inconclusive"]
        if held:
            return self._about(held[0])
        unsettled = next((x for x in binding if METRICS[x.metric].kind == "run" and x.verdict == "inconclusive"), None)
        if unsettled is not None:
            return self._about(unsettled)
        if any(one.gating for one in binding):
            return "too few requests to decide ttft, which this test is about; all else that gates is met"
        return "no criterion could be decided by so few requests, so none gates"

    def _about(self, one: Judged) -> str:
        where = f"{one.target}: " if one.target and len(self.head.targets) > 1 else ""
        speaks = METRICS[one.metric].kind == "run" or one.sentence.startswith(
            ("1 ", "none ", "every ", "undecided: 1 ", "undecided: none ", "p")
        )
        return f"{where}{one.sentence}" if speaks else f"{where}{one.name.partition(' (')[0]}: {one.sentence}"

    def impact(self, scope: Scope) -> str | None:
        """What it means to users, as far as the headline does not say it: who waits, stands still, gets no answer."""
        if self.set_up is not None:
            return None
        rows = self.columns.counted("error_rate", scope.rows(self.columns))
        silent = int((self.columns.stalls[rows] > 0).sum())
        failing = int((~self.columns.having(rows, GOOD)).sum())
        told = [
            self._waits(scope),
            f"1 chat in {one_in(silent / len(rows))} stands still for over 2 s" if silent else None,
            f"1 request in {one_in(failing / len(rows))} fails" if failing else None,
        ]
        said = self._verdict_line()
        return "; ".join(words for words in told if words and words not in said) or None

    def _waits(self, scope: Scope) -> str | None:
        """Who waits longer than the p95 limit, in the target where most do."""
        worst: tuple[float, str, float] | None = None
        asked = 0
        for target in scope.targets:
            limit = next((one.limit for one in self.head.criteria if _speaks_of_waiting(one, target)), None)
            found = self.columns.select(targets=(target,), phases=scope.judged)
            seen = population(self.columns, METRICS["ttft_ms"], found)
            failed = np.isinf(seen.values) & self.columns.having(seen.rows, _FAILED_AT_ONCE)
            if limit is not None and not failed.all():
                asked += int((~failed).sum())
                share = float(((seen.values > limit) & ~failed).mean())
                worst = max(worst or (-1.0, "", 0.0), (share, target, limit))
        if worst is None:
            return None
        share, target, limit = worst
        edge = f"{limit / 1000:g} s" if limit >= 1000 else f"{limit:g} ms"
        if share == 0:
            return f"none of {asked:,} chats waited over {edge}"
        waits = f"{'every chat' if share == 1 else f'1 chat in {one_in(share)}'} waits over {edge}"
        if len(scope.targets) > 1 and waits not in self._verdict_line():
            waits = waits.replace(" waits", f" of {target} waits")
        return waits

    def next_step(self) -> str:
        """The next command or act."""
        if self.set_up is not None:
            return f"{_check_instead(self.head.rerun)}   (it says step by step what the target answers)"
        word = self.decision.word
        if word == "pass":
            return f"keep it: run it on every change; repeat this one with {self.head.rerun}"
        if word == "fail":
            known = next((one for one in self.judged if one.verdict == "fail" and one.metric in _AFTER), None)
            if known is not None and not known.advisory:
                return _AFTER[known.metric]
            return "look in the report at what was not ok and at the slowest; their trace ids lead to your own logs"
        if word == "invalid" and self.story.slept_s:
            return f"keep this machine awake while it measures, then run again: {self.head.rerun}"
        if word == "invalid":
            return "free this machine (or use a larger one, or less load), then run again"
        if self.story.partial:
            on = f"; or go on with this one: streamgauge run --resume {self.head.id}" if self._may_go_on() else ""
            return f"run it to its end: {self.head.rerun}{on}"
        return settled_by(self.head, self.judged)

    def _may_go_on(self) -> bool:
        """Whether `--resume` goes on with it, as far as can be told beforehand: somebody stopped it, nothing failed."""
        closed = all(isinstance(lane.load, Hold) for phase in self.head.phases for lane in phase.lanes)
        named = self.head.rerun.startswith("streamgauge run") and "***" not in self.head.rerun
        stopped = self.story.stopped_by in ("interrupted", "terminated", "the run was killed")
        return self.head.test in ("ttft", "stress", "memory") and closed and named and stopped

    def warnings(
        self,
        summary: Summary,
        scope: Scope,
        *,
        estimated: int,
        full: str | None = None,
        unsure: Sequence[tuple[str, str, str, float]] = (),
    ) -> list[str]:
        """What qualifies the numbers. estimated: answers of unknown usage that the cost counts all the same. full,
        unsure: what `doubt.filled` and `doubt.unsure` found.
        """
        out = []
        if self.story.partial:
            out.append(f"partial run: {self.story.stopped_by or 'not finished'}")
        out += [
            f"cut off {span(one.cut_s)} after its start, resumed at {one.at} after {span(one.gap_s)} without load: "
            "what was open then was lost and asked again"
            for one in self.story.resumed
        ]
        if self.set_up is not None:
            return out
        if full is not None:
            out.append(f"{full}: alone the service may be faster; measure from another machine")
        out += [
            f"{target}: {metric}.{stat} could be off by "
            f"{'any length' if moved == math.inf else f'{moved:,.0f} ms'} through this machine"
            for target, metric, stat, moved in unsure
        ]
        rows = self.columns.counted("error_rate", scope.rows(self.columns))
        good = self.columns.target[rows[self.columns.having(rows, GOOD)]]
        answered = {self.columns.targets[i] for i in np.unique(good)}
        by_events = [name for name in scope.targets if name in answered and summary.tokens_from.get(name) == "events"]
        if by_events:
            out.append(f"{', '.join(by_events)}: tokens are counted as text events, the server reports no usage")
        if any(one.metric in ("output_rate", "tpot_ms") for one in self.judged):
            told = [_without_rate(self.columns, scope, name) for name in scope.targets]
            out += [words for words in told if words is not None]
        merged = [name for name in scope.targets if _hides_gaps(summary, name)]
        if merged:
            out.append(f"{', '.join(merged)}: some ITL quantiles are not shown, too many events were read merged")
        if estimated:
            their = "its" if estimated == 1 else "their"
            broke = f"{estimated:,} {'answer' if estimated == 1 else 'answers'} broke off before {their} usage came"
            out.append(f"{broke}: {their} cost is estimated")
        out += [
            f"{one.name}: failures or waits come in bouts; {one.n:,} requests are worth {one.n_effective:,}"
            for one in self.judged
            if one.n_effective is not None
        ]
        open_loop = any(not isinstance(lane.load, Hold) for phase in self.head.phases for lane in phase.lanes)
        shed = summary.outcomes.get("shed", 0)
        if open_loop and shed:
            out.append(f"{shed:,} arrivals were shed at the cap: the service did not keep up with the rate")
        out += [
            f"{name}: its rpm = {self.head.paces[name]:g} held the load back; raise it, or ask for fewer streams"
            for name in _held_back(self.head, self.columns)
        ]
        out += [
            f"the control {name} was stopped: all its requests failed alike"
            for name in self.story.stopped_targets
            if name in self.head.only_controls
        ]
        if self.head.inconclusive_passes and self.decision.word == "inconclusive" and not self.story.partial:
            out.append("inconclusive counts as a pass by --inconclusive pass")
        return out


def _check_instead(rerun: str) -> str:
    """The command that checks what `rerun` measured: the same target, without what speaks of load."""
    command, words = ["streamgauge", "check"], shlex.split(rerun)[2:]
    for at, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in _OF_THE_TARGET:
            command += [word] if equals else words[at : at + 2]
    return shlex.join(command)


def _held_back(head: Head, columns: Columns) -> list[str]:
    """Targets that were started as fast as their rpm lets them be, or nearly."""
    found = []
    for name, rpm in head.paces.items():
        starts = columns.due[columns.select(targets=(name,), phases=head.judged_phases)]
        minutes = (int(starts.max()) - int(starts.min())) / 60e9 if len(starts) > 1 else 0.0
        if minutes and (len(starts) - 1) / minutes > 0.9 * rpm:
            found.append(name)
    return found


def _without_rate(columns: Columns, scope: Scope, target: str) -> str | None:
    """That output_rate speaks for a part of the good answers only: the others came all at once."""
    rows = columns.select(targets=(target,), phases=scope.judged)
    good = rows[columns.having(rows, GOOD)]
    without = int(np.isnan(columns.values["output_rate"][good]).sum())
    if without <= TOLERATED * len(good):
        return None
    whole = f"{without:,} of {len(good):,} good answers have no output_rate"
    return f"{target}: {whole}: they came in one read, or as one token"


def _hides_gaps(summary: Summary, target: str) -> bool:
    group = summary.group(target=target)
    return group is not None and "merged" in group.metrics["itl_ms"].why.values()


def _speaks_of_waiting(one: Criterion, target: str) -> bool:
    asks = one.metric == "ttft_ms" and one.stat == "p95" and one.op in ("<", "<=")
    return asks and one.target in (None, target) and one.prompt is None and one.phase is None
