"""`--probe` on the command line: a probe in one word, as the table of a spec.

pid:1234   port:3000   cmd:node.*server   http://127.0.0.1:3000/api/probe
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from streamgauge.spec.mistakes import Places

TOKEN = "PROBE_TOKEN"
"""The variable that the shipped handlers take their token from: where it is set, a page is asked with it."""
FLAG = "--probe"
_KINDS = {"pid": "pid", "port": "port", "cmd": "command", "command": "command"}


def parse_probe(text: str, variables: Mapping[str, str]) -> tuple[str, dict[str, object]]:
    """(name, table) of a probe. ValueError says what is allowed; the values are checked with the spec."""
    kind, colon, value = text.partition(":")
    name = re.sub(r"[^A-Za-z0-9._:/-]+", "-", re.sub(r"^[a-z+]+://", "", text).partition("?")[0]).strip("-./:")[:64]
    if "://" in text:
        table: dict[str, object] = {"kind": "json", "url": text, "collect": "?collect=1"}
        if variables.get(TOKEN):
            table["headers"] = {"authorization": f"Bearer ${{{TOKEN}}}"}
        return name or "page", table
    if not colon or kind not in _KINDS or not value:
        allowed = "pid:1234, port:3000, cmd:PATTERN (in a command line) or the url of a page that answers with JSON"
        raise ValueError(f"is no probe; write {allowed}")
    key = _KINDS[kind]
    number = key != "command" and value.isascii() and value.isdigit()
    return name, {"kind": "process", key: int(value) if number else value}


def is_by_flag(places: Places, name: str) -> bool:
    """Whether a probe was named on the command line."""
    return places.origins.get(("probes", name), "").startswith(FLAG)
