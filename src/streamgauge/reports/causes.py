"""Why it is so, as people read it: the checklist of root causes, signs over the run, and connections.

Rules: those of `view`: nothing is computed that the document does not say, nothing is escaped.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import streamgauge.reports.wording as say
from streamgauge.connections import Connections
from streamgauge.findings.checklist import Look
from streamgauge.reports.cells import Cell, Table
from streamgauge.reports.document import Document

MARKS = {"found": "✗", "ruled_out": "✓", "not_looked_at": "·"}
STATES = {"found": "found", "ruled_out": "ruled out", "not_looked_at": "not looked at"}
_BY = {"server": "the server", "reset": "a reset", "asked": "us, as the server asked", "us": "us"}
_COLUMNS = ("requests", "new", "reused", "open at most", "refused or failed", "sent again", "TCP", "TLS")


def looks(document: Document) -> list[tuple[str, list[Look]]]:
    """The checklist, list by list."""
    return [(cause, list(lines)) for cause, lines in itertools.groupby(document.checklist, key=lambda one: one.cause)]


def state(look: Look) -> str:
    """Its state with a mark, never by colour alone."""
    return f"{MARKS.get(look.state, '·')} {say.plain(STATES.get(look.state, look.state), 40)}"


def look_words(look: Look) -> str:
    """A line's state in words."""
    words = say.plain(look.words, 240)
    told = words.startswith(("more ", "longer "))
    return f"add {words}" if look.state == "not_looked_at" and not told else words


def short_looks(lines: Sequence[Look]) -> str:
    """One list in a line, for a small screen: what was found, ruled out, and not looked at."""
    parts = []
    for state, word in STATES.items():
        texts = [_short(one.line) for one in lines if one.state == state]
        if texts:
            parts.append(f"{word}: {', '.join(texts)}")
    return "; ".join(parts)


def _short(line: str) -> str:
    """`Check provider API latency` as `provider API latency`."""
    first, _, rest = line.partition(" ")
    return rest if rest and first != "Profile" else line


def signs(document: Document) -> list[tuple[str, str, str]]:
    """(target, sign, words) of what warns or is well, warnings first."""
    told = [one for one in document.trends if one.sign is not None]
    told.sort(key=lambda one: one.sign != "warning")
    return [(say.plain(one.target, 60), say.plain(str(one.sign), 20), say.plain(one.words, 160)) for one in told]


def silenced(document: Document) -> str | None:
    """Which findings the spec silences, and how many there were; None where it silences none."""
    if not document.silenced:
        return None
    names = [f"{name} ({say.count(n, 'finding')})" for name, n in document.silenced.items()]
    return f"Silenced in the spec: {', '.join(names)}"


def connections(document: Document) -> Table:
    """What was made, used again and refused."""
    rows = []
    for one in document.connections:
        cells = [
            f"{one.requests:,}", f"{one.new:,}", f"{one.reused:,}", say.number(one.most_open),
            f"{one.refused + one.failed:,}", f"{one.retried:,}", say.milliseconds(one.connect_p50_ms),
            say.milliseconds(one.tls_p50_ms),
        ]  # fmt: skip
        rows.append((say.plain(one.target, 60), say.plain(one.words, 120), [Cell(text) for text in cells]))
    return Table(list(_COLUMNS), rows)


def ends(document: Document) -> Table:
    """At which ages connections ended, by whom; nothing where all were ours to end."""
    every = [one for one in document.connections if _others(one)]
    rows = []
    for one in every:
        for age in one.ages:
            to = "and older" if age.to_s is None else f"to {say.seconds(age.to_s)}"
            cells = [Cell(f"{age.ended.get(by, 0):,}") for by in _BY]
            rows.append((say.plain(one.target, 60), f"{say.seconds(age.from_s)} {to}", cells))
    return Table([f"by {name}" for name in _BY.values()], rows)


def _others(one: Connections) -> bool:
    return any(age.ended.get(by) for age in one.ages for by in ("server", "reset", "asked"))
