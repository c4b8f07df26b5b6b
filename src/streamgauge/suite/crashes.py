"""When the service, or one of its instances, was gone or began anew under load: by connections that nobody took, and by
what probes read.

Rules: one crash is told once, whoever saw it: refused connections and a restart that a probe saw at that time are the
same one. It begins with the first request that it cost, as far as one was open, and ends with the first good answer to
a request that was sent after it began.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from streamgauge.clock import S
from streamgauge.columns import Columns, IntArray
from streamgauge.sample import GOOD, NOT_JUDGED, Outcome, Reading
from streamgauge.strain import Crash

REFUSED_IN_A_ROW = 10
"""So many connections refused, and no answer in between: nobody listens."""
RESTART = "saw a restart"
TELLS_NS = 1 * S
"""An uptime may have whole seconds."""
SAME_NS = 3 * TELLS_NS // 2
STAYS = 3
"""So often in a row: two that answer by chance do that in 1 of 16 runs."""
BY_CHANCE = 0.01
"""One that still answers by turns is never met again so seldom."""
GONE = (Outcome.CONNECT_REFUSED, Outcome.DROPPED)
"""What a request ends in whose server is gone."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One sign of a crash, which lies between the last time it was surely there and the first that it was not, ns."""

    words: str
    after_ns: int
    by_ns: int


def crashes(
    columns: Columns,
    rows: IntArray,
    readings: Sequence[Reading],
    *,
    start_ns: int,
    gaps: Sequence[tuple[int, int]] = (),
    level_at: Callable[[int], float | None] = lambda _: None,
) -> list[Crash]:
    """Each crash, in order of time. rows: requests to the judged targets. level_at: what was held at a time."""
    rows = rows[~columns.having(rows, NOT_JUDGED)]
    lost = columns.end[rows[columns.having(rows, GONE)]].tolist()
    signs = [
        *refusals(columns, rows, start_ns), *restarts(readings, start_ns, gaps),
        *replacements(readings, lost, start_ns, gaps),
    ]  # fmt: skip
    signs.sort(key=lambda one: one.after_ns)
    found: list[Crash] = []
    for sign in signs:
        one = _crash(columns, rows, sign, level_at)
        if found and (found[-1].back_ns is None or sign.after_ns <= found[-1].back_ns):
            found[-1] = _both(found[-1], one)
        else:
            found.append(one)
    return found


def _crash(columns: Columns, rows: IntArray, sign: Sign, level_at: Callable[[int], float | None]) -> Crash:
    ends, bad = columns.end[rows], columns.having(rows, GONE)
    cost = ends[bad & (ends > sign.after_ns) & (ends <= sign.by_ns)]
    at = int(cost.min()) if len(cost) else sign.by_ns
    back = ends[columns.having(rows, GOOD) & (columns.start[rows] > at)]
    back_ns = int(back.min()) if len(back) else None
    failed = ~columns.having(rows, GOOD) & (ends >= at) & (ends <= (ends.max() if back_ns is None else back_ns))
    return Crash(
        words=sign.words, last_ns=sign.after_ns, at_ns=at, back_ns=back_ns, level=level_at(at),
        failed=int(failed.sum()), n=len(rows),
    )  # fmt: skip


def _both(one: Crash, other: Crash) -> Crash:
    """Two signs of one crash: what each says, from the first to when it was back after both."""
    back = None if one.back_ns is None or other.back_ns is None else max(one.back_ns, other.back_ns)
    return Crash(
        words=f"{one.words}; {other.words}", last_ns=one.last_ns, at_ns=min(one.at_ns, other.at_ns), back_ns=back,
        level=one.level, failed=max(one.failed, other.failed), n=one.n,
    )  # fmt: skip


def refusals(columns: Columns, rows: IntArray, start_ns: int) -> list[Sign]:
    """Stretches in which every connection was refused: 10 in a row, in order of their ends."""
    rows = rows[~columns.having(rows, [Outcome.SHED])]
    rows = rows[np.argsort(columns.end[rows], kind="stable")]
    refused = columns.having(rows, [Outcome.CONNECT_REFUSED])
    good = columns.end[rows[columns.having(rows, GOOD)]]
    edges = np.flatnonzero(np.diff(np.concatenate(([False], refused, [False])).astype(np.int8)))
    found = []
    for first, after in zip(edges[::2], edges[1::2], strict=True):
        if after - first >= REFUSED_IN_A_ROW:
            by = int(columns.end[rows[first]])
            before = good[good <= by]
            words = f"nobody listened from {(by - start_ns) / S:.1f} s on: {after - first} connections refused in a row"
            found.append(Sign(words, int(before[-1]) if len(before) else start_ns, by))
    return found


def restarts(found: Sequence[Reading], start_ns: int, gaps: Sequence[tuple[int, int]] = ()) -> list[Sign]:
    """Where a probe saw a server that had begun since its last reading. gaps: when nobody loaded it, since the run had
    been cut off: what happened to it then is no crash.

    By its uptime; without one by another process or another instance, where the former was read three times in a row,
    the new one as often since, and the former never again: several servers behind one address take turns.
    """
    probes: dict[str, list[Reading]] = {}
    for one in found:
        if one.error is None:
            probes.setdefault(one.probe, []).append(one)
    out = []
    for probe, mine in probes.items():
        for turn in _turns(mine):
            after_ns, by_ns = turn.before.at_ns, turn.one.at_ns
            if any(after_ns <= until and by_ns >= since for since, until in gaps):
                continue
            how = _began(turn)
            if how is not None:
                at = f" by {(by_ns - start_ns) / S:.1f} s" if start_ns else ""
                out.append(Sign(f"probe {probe} {RESTART}{at}: {how}", after_ns, by_ns))
    return out


def replacements(
    found: Sequence[Reading], lost_ns: Sequence[int], start_ns: int, gaps: Sequence[tuple[int, int]] = ()
) -> list[Sign]:
    """Where one of several instances that answer by turns was replaced under load. lost_ns: when connections were lost
    or refused.

    Three things together: it is met no more, and not by chance; a new one began after it was last met; connections were
    lost in between. An instance that is added takes no other one away; one that a deployment drains loses no stream.
    """
    probes: dict[str, list[Reading]] = {}
    for one in found:
        if one.error is None and one.instance and not one.instance.startswith("#"):
            probes.setdefault(one.probe, []).append(one)
    out = []
    for probe, mine in probes.items():
        names = [one.instance for one in mine]
        first = {name: names.index(name) for name in dict.fromkeys(names)}
        gone = [i for i in (len(names) - 1 - names[::-1].index(name) for name in first) if _never_again(names, i)]
        for new in (mine[i] for i in first.values()):
            began_ns = None if new.uptime_s is None else new.at_ns - round(new.uptime_s * S)
            if began_ns is None or any(since <= new.at_ns and began_ns <= until for since, until in gaps):
                continue
            for i in gone:
                last = mine[i]
                cost = any(last.at_ns < at_ns <= new.at_ns for at_ns in lost_ns)
                if last.at_ns < began_ns + TELLS_NS and cost:
                    at = f" by {(new.at_ns - start_ns) / S:.1f} s" if start_ns else ""
                    how = f"{new.instance} instead of {last.instance}, up for {new.uptime_s:.1f} s only"
                    out.append(Sign(f"probe {probe} {RESTART}{at}: {how}", last.at_ns, new.at_ns))
                    gone.remove(i)
                    break
    return out


def _never_again(names: Sequence[str], last: int) -> bool:
    """Whether the instance read last at `last`, one of several by turns, stays away for longer than chance explains."""
    own = [i for i in range(last + 1) if names[i] == names[last]]
    others = len(set(names[own[0] : last])) > 1
    share = min(len(own) / (last + 1 - own[0]), 1 / len(set(names)))
    return others and len(own) >= STAYS and (1 - share) ** (len(names) - 1 - last) < BY_CHANCE


@dataclass(frozen=True, slots=True)
class _Turn:
    """Two readings that follow each other, of one instance or where another has taken its place."""

    before: Reading
    one: Reading
    alone: int
    """How often the former process was read in a row until then."""
    later: Sequence[Reading]


def _turns(mine: Sequence[Reading]) -> list[_Turn]:
    """Of each instance its readings two by two; and where an instance appears and the former is never seen again."""
    series: dict[str, list[Reading]] = {}
    for one in mine:
        series.setdefault(one.instance, []).append(one)
    turns = [_turn(same, i) for same in series.values() for i in range(1, len(same))]
    for i, (before, one) in enumerate(pairwise(mine), 1):
        if before.instance != one.instance and before is series[before.instance][-1] and one is series[one.instance][0]:
            turns.append(_turn(mine, i))
    return sorted(turns, key=lambda turn: turn.one.at_ns)


def _turn(row: Sequence[Reading], i: int) -> _Turn:
    former = [_who(one) == _who(row[i - 1]) for one in reversed(row[:i])]
    return _Turn(row[i - 1], row[i], former.index(False) if False in former else i, row[i + 1 :])


def _who(one: Reading) -> tuple[str, int | None]:
    return one.instance, one.pid


def _began(turn: _Turn) -> str | None:
    """How the server shows that it began between two readings; None where it does not."""
    before, one = turn.before, turn.one
    since_ns, another = one.at_ns - before.at_ns, one.instance != before.instance
    if one.uptime_s is not None:
        up_ns = round(one.uptime_s * S)
        began_anew = before.uptime_s is None or round(before.uptime_s * S) + since_ns - up_ns > SAME_NS
        begun = up_ns < since_ns + TELLS_NS and (began_anew or _who(one) != _who(before))
        # Another instance may have been added beside the former one.
        return f"up for {one.uptime_s:.1f} s only" if begun and (not another or _stays(turn, 2)) else None
    if _who(one) == _who(before) or (None in (one.pid, before.pid) and not another):
        return None
    if turn.alone < STAYS or not _stays(turn, STAYS):
        return None
    return f"{_named(one)} instead of {_named(before)}"


def _stays(turn: _Turn, times: int) -> bool:
    """Whether the new one has been read so often in a row since, and the former never again."""
    after = [turn.one, *turn.later]
    new = len(after) >= times and all(_who(one) == _who(turn.one) for one in after[:times])
    return new and all(_who(one) != _who(turn.before) for one in after)


def _named(one: Reading) -> str:
    return f"process {one.pid}" if one.pid is not None else one.instance
