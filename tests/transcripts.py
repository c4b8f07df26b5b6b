"""Reads a published transcript of a stream, by the plainest means, through a dialect's reader."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamgauge.dialects.contract import (
    END,
    ERROR,
    MALFORMED,
    REASONING,
    STEP,
    TEXT,
    TOOL,
    UNKNOWN,
    Dialect,
    Reader,
)

NAMES = {TEXT: "text", REASONING: "reasoning", TOOL: "tool", STEP: "step", END: "end", ERROR: "error"}
NAMES |= {UNKNOWN: "unknown", MALFORMED: "malformed"}


@dataclass
class Reading:
    """What a reader made of a transcript: one entry of `brought` an event, its bits by name ("" for nothing)."""

    reader: Reader
    brought: list[str] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    tool: str = ""


def events(transcript: str) -> list[tuple[str, bytes]]:
    """(type, data) of each block of a well-formed transcript."""
    found = []
    for block in transcript.strip().split("\n\n"):
        fields = dict(line.strip().split(": ", 1) for line in block.splitlines() if not line.lstrip().startswith(":"))
        if "data" in fields:
            found.append((fields.get("event", "message"), fields["data"].encode()))
    return found


def read(dialect: Dialect, transcript: str) -> Reading:
    """Every event of a transcript through a fresh reader."""
    reading = Reading(dialect.reader())
    for event, data in events(transcript):
        bits = reading.reader.read(event, data)
        reading.brought.append("+".join(name for bit, name in NAMES.items() if bits & bit))
        if bits & TEXT:
            reading.text += reading.reader.text
        elif bits & REASONING:
            reading.reasoning += reading.reader.text
        elif bits & TOOL:
            reading.tool += reading.reader.text
    return reading
