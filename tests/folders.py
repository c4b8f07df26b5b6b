"""Run folders as a run would leave them, from made samples: what assess, report and every later verb start from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from made import MS, START
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.sample import Sample, SampleWriter
from streamgauge.suite.folder import Head, create
from streamgauge.verdict import Criterion

Event = dict[str, Any]


def phase(name: str, at_ms: float = 0.0, level: int = 4) -> Event:
    return {"event": "phase", "name": name, "level": level, "at_ns": START + round(at_ms * MS)}


def stop(why: str, at_ms: float) -> Event:
    return {"event": "stop", "why": why, "at_ns": START + round(at_ms * MS)}


def end(at_ms: float, **facts: Any) -> Event:
    usual = {"stopped_by": None, "partial": False, "signal": None, "worker_died": None, "stopped_targets": []}
    return {"event": "end", "at_ns": START + round(at_ms * MS), **usual, **facts}


def whole(samples: Sequence[Sample]) -> list[Event]:
    """The journal of a run that went by its plan: hold until the last start, then the drain."""
    last = max((s.due_ns for s in samples), default=START)
    after = (last - START) / MS + 1
    return [{"event": "round", "number": 0}, phase("hold"), phase("drain", after, 0), end(after + 1_000)]


def run_folder(
    root: Path,
    samples: Iterable[Sample],
    criteria: Iterable[Criterion],
    journal: Sequence[Event] | None = None,
    **head: Any,
) -> Path:
    """A folder of one finished run (or of what `journal` tells); `head` replaces facts of its head."""
    samples = list(samples)
    targets = list(dict.fromkeys(s.target for s in samples)) or ["app"]
    prompts = list(dict.fromkeys(s.prompt for s in samples)) or ["short"]
    usual: dict[str, Any] = {
        "id": "20251124T041500Z-ttft-5c1f", "test": "ttft", "suite": None, "version": "0.1.0", "python": "3.11.7",
        "platform": "Linux", "host": "runner-3", "cpus": 2, "git": None, "started": "2025-11-24T04:15:00Z",
        "start_ns": START, "environment": None, "kind": "local", "preset": "pr",
        "settings": {"requests": 150, "targets": targets, "prompts": prompts},
        "targets": [{"name": name, "url": None, "dialect": "openai-chat", "model": None, "control": None,
                     "addresses": None} for name in targets],
        "controls": {}, "only_controls": [], "prices": {}, "confidence": 0.95, "doubles": False,
        "phases": [Phase("hold", tuple(Lane((name,), tuple(prompts), Hold(4), 150) for name in targets), 4)],
        "judged_phases": ["hold"], "spec_digest": None, "seed": 1, "rerun": "streamgauge run ttft", "out": str(root),
        "descriptors_limit": None, "workers": 1, "notes": [],
    }  # fmt: skip
    folder = create(Head(criteria=list(criteria), **{**usual, **head}), root)
    writer = SampleWriter(folder / "samples-0-0.sgs")
    for sample in samples:
        writer.add(sample)
    writer.close()
    lines = whole(samples) if journal is None else journal
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
