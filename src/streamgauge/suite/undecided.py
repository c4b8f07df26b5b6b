"""What settles a run that is undecided: more requests, more time, another service behind it, or nothing of the kind.

Rules: a command wherever one helps. That the service lies close to a limit is said only where that is all that is left:
a run that was too short says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from streamgauge.metrics import METRICS
from streamgauge.sentences import rounded_up
from streamgauge.spec.presets import TABLE
from streamgauge.suite.endurance import RECIPE
from streamgauge.suite.folder import Head
from streamgauge.suite.memory import UNREAD
from streamgauge.verdict import Judged


def settled_by(head: Head, judged: Sequence[Judged]) -> str:
    """The next step of an undecided run."""
    open_ = [one for one in judged if one.gating and one.verdict == "inconclusive"]
    wanted = [_requests_a_target(one, head.settings) for one in open_ if one.needs is not None]
    again = re.sub(r" --requests[ =]\d+", "", head.rerun)
    runs = "streamgauge run" in again
    if any(one.why == "no_text" for one in open_):
        return "raise max_tokens in the test's table, or judge ttfr_ms: too many answers held no visible text"
    if wanted and len(wanted) == len(open_):
        asks = f": {again} --requests {max(wanted)}" if runs else ""
        return f"about {max(wanted):,} requests a target would settle it{asks}"
    if any(RECIPE in one.sentence for one in open_):
        return "have a slower upstream answer (docs/operations.md, Streams of 15 minutes): more of the same is no help"
    if any(UNREAD in one.sentence for one in open_):
        return "see why the probe stopped answering (streamgauge check asks it), then run again"
    return _longer(head, open_, again) or _by_kind(open_)


def _longer(head: Head, open_: Sequence[Judged], again: str) -> str | None:
    """A longer run: the preset's own length where flags made it shorter, else a larger preset; None where neither."""
    whole = re.sub(r" --duration[ =]\S+", "", again) if _cut_short(head) else again
    left_out = [flag for flag in ("--requests", "--duration") if flag in head.rerun and flag not in whole]
    if left_out and (not open_ or "--duration" in left_out):
        return f"leave out {' and '.join(left_out)}, the preset's own length decides more: {whole}"
    if head.preset in ("smoke", "pr"):
        named = "streamgauge run" in again
        larger = re.sub(r" --preset[ =][a-z]+", "", whole) if named else f"streamgauge run {head.test} --url URL"
        return f"a larger preset decides more: {larger} --preset standard"
    if not open_ or any(one.why in ("too_few", "not_measured") for one in open_):
        return "run it longer, or with more requests: too little was seen of what gates to decide it"
    return None


def _cut_short(head: Head) -> bool:
    """Whether the judged part is shorter than its preset has it."""
    preset, seconds = TABLE.get((head.test, head.preset)), head.settings.get("duration_s")
    if preset is None or not isinstance(seconds, int | float):
        return False
    return preset.duration_s is None or seconds < preset.duration_s


def _by_kind(open_: Sequence[Judged]) -> str:
    """What is left to say of criteria that no longer run is known to settle."""
    if any(METRICS[one.metric].kind == "run" for one in open_):
        return "each open criterion says what would settle it"
    if any(one.why == "merged" for one in open_):
        return "less load, or a machine with more cores: events were read merged, which hides the gaps that are judged"
    return "what was seen lies close to a limit: the criteria say how close, and what would settle each"


def _requests_a_target(one: Judged, settings: dict[str, object]) -> int:
    """Requests a target that would settle an open criterion: it may speak of one prompt only, or of all targets."""

    def several(key: str) -> int:
        names = settings.get(key)
        return max(1, len(names)) if isinstance(names, list | tuple) else 1

    total = (one.n + (one.needs or 0)) * (several("prompts") if one.prompt is not None else 1)
    return rounded_up(math.ceil(total / (several("targets") if one.target is None else 1)))
