"""Texts that break pages, tables, terminals, spreadsheets, templates, legends, encoders; and a document full of one."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from documents import failing
from streamgauge.reports.document import Document
from streamgauge.sample import Sample

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    "\x1b[31mred\x1b[0m\x07\x00\r\nnext line",
    "\u202eevil\u202c \u2066x\u2069",
    "a | b ` c ]( https://evil.example ) **bold** ![x](y) @team #12 www.evil.example",
    "{{ 7*7 }} {% raw %} ${HOME} $\\foo$",
    "_hidden",
    "\ud83d half a pair",
    "x" * 2_048,
)

_WORDS = frozenset(
    {
        "way",
        "sign",
        "state",
        "verdict",
        "severity",
        "schema",
        "kind",
        "op",
        "unit",
        "metric",
        "stat",
        "started",
        "outcome",
        "stamps",
    }
)
"""Fields whose values are ours: a fixed set of words, or a time that names the files."""
_FREE_KEYS = frozenset({"settings", "values", "planned"})
"""Fields whose dicts take any key."""


def hostile(text: str) -> tuple[Document, list[Sample]]:
    """A failing document, and some of its Samples, with `text` in every field that can hold text from outside."""
    document, samples = failing()
    return _soil(document, text), [_soil(sample, text) for sample in samples[:40]]


def soiled(document: Document, text: str) -> Document:
    """Any document with `text` in every such field."""
    dirty: Document = _soil(document, text)
    return dirty


def _soil(value: Any, text: str, field: str = "") -> Any:
    if isinstance(value, msgspec.Struct):
        fields = {name: _soil(getattr(value, name), text, name) for name in value.__struct_fields__}
        return type(value)(**fields)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{one.name: _soil(getattr(value, one.name), text, one.name) for one in dataclasses.fields(value)}
        )
    if isinstance(value, dict):
        soiled = {key: _soil(item, text, key) for key, item in value.items()}
        return {**soiled, text: 1.5} if field in _FREE_KEYS else soiled
    if isinstance(value, list | tuple):
        return type(value)(_soil(item, text, field) for item in value)
    return text if isinstance(value, str) and field not in _WORDS else value
