"""Which life of which instance an answer is of, told by instance id, process id and uptime.

Rules: an answer of the same id whose process began at another time is a restart where it began after the last answer
of that id, else another process under the same id: it gets the id with `#2`, `#3`..., so that each series is of one
process at a time. Without an uptime no restart can be seen: another pid is another process. Where neither is told, all
answers are one series.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamgauge.clock import S

SAME_NS = 3 * S
"""Starts that lie so near are the same: an uptime may have whole seconds, and the asking takes its time."""


@dataclass(slots=True)
class _Life:
    name: str
    pid: int | None
    began_ns: int | None
    last_ns: int
    restarts: int = 0


@dataclass(slots=True)
class Lives:
    """The lives seen so far."""

    _by_id: dict[str, list[_Life]] = field(default_factory=dict)

    def told(self, instance: str, pid: int | None, uptime_s: float | None, at_ns: int) -> tuple[str, int]:
        """(name of the series, its restarts so far) of an answer at `at_ns`."""
        began = None if uptime_s is None else at_ns - round(uptime_s * S)
        lives = self._by_id.setdefault(instance, [])
        life = next((one for one in lives if _same(one, pid, began)), None)
        if life is None:
            over = [] if began is None else [one for one in lives if began >= one.last_ns - SAME_NS]
            if over:  # the one that has been silent for longest made way
                life = min(over, key=lambda one: one.last_ns)
                life.restarts += 1
            else:
                number = len(lives) + 1
                life = _Life(instance if number == 1 else f"{instance}#{number}", pid, began, at_ns)
                lives.append(life)
        life.pid, life.began_ns, life.last_ns = pid, began, at_ns
        return life.name, life.restarts


def _same(life: _Life, pid: int | None, began_ns: int | None) -> bool:
    """Whether an answer may be of this life."""
    if pid != life.pid and pid is not None and life.pid is not None:
        return False
    if began_ns is None or life.began_ns is None:
        return True
    return abs(began_ns - life.began_ns) <= SAME_NS
