"""AIPerf, its defaults: as many workers as it starts itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from bench.peers.tool import Case, Told, Tool, counted, not_installed, python_of, version_of, with_tokenizer

_OF_ITSELF = re.compile(r"(event loop|too long|falling behind|cannot keep up|timed? ?out)[^\n]{0,80}", re.IGNORECASE)


def command(case: Case) -> Sequence[str]:
    return (
        str(python_of("aiperf") / "aiperf"), "profile", "-m", case.model, "--url", case.base,
        "--endpoint-type", "chat", "--streaming", "--concurrency", str(case.streams),
        "--request-count", str(case.requests), "--tokenizer", with_tokenizer("aiperf", case), "--isl", "16",
        "--osl", "100", "--ui", "none", "--artifact-dir", "report",
    )  # fmt: skip


def read(case: Case) -> Told:
    """`profile_export_aiperf.json`; warnings about its own event loops are in its log."""
    report = json.loads((case.folder / "report" / "profile_export_aiperf.json").read_text("utf-8"))
    ttft = report["time_to_first_token"]
    log = case.folder / "report" / "logs" / "aiperf.log"
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else case.output().splitlines()
    slow = ["event loop too long" for line in lines if " WARNING " in line and _OF_ITSELF.search(line)]
    return Told((ttft["p50"], ttft["p95"], ttft["p99"]), counted(slow))


TOOL = Tool("AIPerf", lambda: not_installed("aiperf"), lambda: version_of("aiperf", "aiperf"), command, read)
