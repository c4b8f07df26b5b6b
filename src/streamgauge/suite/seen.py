"""What was seen of a target's answers: `.streamgauge/seen.json`, for estimates of what a run would send.

Only lengths that no cap of ours cut are worth remembering; whoever calls `remember` sees to that.

Rules: the file is a hint. A broken one counts as nothing seen, one that cannot be written costs a warning, never a run.
It is replaced whole. No secret is in it: the key is made without the url's query.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from streamgauge.suite.folder import write_whole
from streamgauge.target import Target

FILE = Path(".streamgauge") / "seen.json"
MOST = 200
"""Targets kept; the ones seen longest ago go first."""


class Seen(msgspec.Struct, frozen=True):
    """One answer that ran to its own end. `output_tokens` are text events where the server counts none."""

    output_tokens: int
    ttft_ms: float | None
    at: str
    """UTC, ISO 8601."""


def key_of(target: Target) -> str:
    """`<origin+path> <dialect> <model>`, without the query; `-` where no model is named."""
    path = target.path.partition("?")[0]
    return f"{target.scheme}://{target.authority}{path} {target.dialect} {target.model or '-'}"


def remember(root: Path, key: str, output_tokens: int, ttft_ms: float | None, at: str) -> str | None:
    """Note what was seen under `root`. A warning in words where it cannot be written."""
    known = {**_read(root), key: Seen(output_tokens, ttft_ms, at)}
    kept = dict(sorted(known.items(), key=lambda item: item[1].at)[-MOST:])
    path = root / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
    except OSError as error:
        return f"{path} cannot be written ({error.strerror or error}): estimates will not know what was seen"
    return None


def recall(root: Path, key: str) -> Seen | None:
    """What was last seen of `key`; None where nothing was, or nothing readable."""
    return _read(root).get(key)


def _read(root: Path) -> dict[str, Seen]:
    with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError, RecursionError):
        found = msgspec.json.decode((root / FILE).read_bytes(), type=dict[str, Seen])
        return {key: seen for key, seen in found.items() if seen.output_tokens >= 0}
    return {}
