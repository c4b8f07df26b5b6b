"""When the load must stop by itself.

After 20 equal failures of a target in a row (unjudged phases not counted): at once if that target never succeeded,
else when no stream of it has given output for 10 s; and at a limit on requests, tokens or money.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from streamgauge.clock import S
from streamgauge.control import Brief
from streamgauge.sample import GOOD, Outcome

EQUAL_FAILURES = 20
SILENCE_NS = 10 * S


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Hard stops of the load; None is no limit. `usd_per_mtok`: (input, output) for each target with a known price."""

    requests: int | None = None
    tokens: int | None = None
    usd: float | None = None
    usd_per_mtok: dict[str, tuple[float, float]] = {}
    input_tokens: dict[str, int] = {}
    """What a request to each target takes in, for answers that do not say."""


@dataclass
class Guard:
    """Knows when the load must stop. Fed with what ended; pure but for its own memory."""

    limits: Limits
    targets: frozenset[str]
    unjudged: tuple[str, ...]
    requests: int = 0
    tokens: int = 0
    usd: float = 0.0
    _row: dict[str, tuple[tuple[Outcome, int | None], int]] = field(default_factory=dict)
    _ever: set[str] = field(default_factory=set)

    def saw(self, brief: Brief) -> None:
        """One request ended. What was shed was never sent: it counts for nothing here."""
        if brief.outcome is Outcome.SHED:
            return
        self.requests += 1
        assumed = self.limits.input_tokens.get(brief.target, 0) if brief.http_status == 200 else 0
        spent_in = assumed if brief.input_tokens is None else brief.input_tokens
        spent_out = brief.output_tokens or brief.text_events
        self.tokens += spent_in + spent_out
        price = self.limits.usd_per_mtok.get(brief.target)
        if price is not None:
            self.usd += (spent_in * price[0] + spent_out * price[1]) / 1e6
        if brief.outcome in GOOD:
            self._ever.add(brief.target)
            self._row.pop(brief.target, None)
            return
        if brief.phase in self.unjudged:
            return
        if brief.outcome is Outcome.CANCELLED:
            return
        kind = (brief.outcome, brief.http_status)
        before, count = self._row.get(brief.target, (kind, 0))
        self._row[brief.target] = (kind, count + 1 if before == kind else 1)

    def over(self, open_streams: int) -> str | None:
        """The limit that was struck, in words."""
        limits = self.limits
        if limits.requests is not None and self.requests + open_streams >= limits.requests:
            return f"max_requests = {limits.requests} reached"
        if limits.tokens is not None and self.tokens >= limits.tokens:
            return f"max_tokens = {limits.tokens} reached ({self.tokens:,} tokens)"
        if limits.usd is not None and self.usd >= limits.usd:
            return f"max_usd = {limits.usd:g} reached ({self.usd:.2f} USD)"
        return None

    def hopeless(
        self, now: int, last_output_ns: dict[str, int], at_once: frozenset[Outcome] = frozenset()
    ) -> dict[str, str]:
        """Targets that only fail, and in which words. `at_once`: outcomes after which nobody waits for silence."""
        found = {}
        for target, ((outcome, status), count) in self._row.items():
            if count < EQUAL_FAILURES:
                continue
            silent = now - last_output_ns.get(target, 0) >= SILENCE_NS
            if target not in self._ever or silent or outcome in at_once:
                what = outcome if status is None else f"{outcome} ({status})"
                found[target] = f"{target}: {count} times {what} in a row"
        return found

    def forget(self) -> None:
        """What failed so far belongs to a load that is over."""
        self._row.clear()
