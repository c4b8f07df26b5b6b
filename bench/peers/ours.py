"""Streamgauge itself, by its command line: preflight, warm-up, samples on disk, all four reports."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence

from bench.peers.tool import Case, Told, Tool, quantiles
from streamgauge import __version__


def command(case: Case) -> Sequence[str]:
    """One prompt set, for the prompts are to be as short as the others'."""
    return (
        sys.executable, "-m", "streamgauge", "run", "ttft", "--url", case.chat, "--dialect", "openai-chat",
        "--model", case.model, "--concurrency", str(case.streams), "--requests", str(case.requests),
        "--set", 'ttft.prompts=["short"]', "--set", "ttft.max_tokens=100", "--out", "reports", "--yes", "--quiet",
    )  # fmt: skip


def read(case: Case) -> Told:
    """TTFT as the others count it, from sending: `ttft_service_ms`, from the CSV, which has every request.

    The JSON leaves out what so few requests cannot tell, as p99 of 50.
    """
    reports = case.folder / "reports"
    document = json.loads(next(reports.glob("*.json")).read_text("utf-8"))
    with next(reports.glob("*.csv")).open(newline="", encoding="utf-8") as file:
        found = [float(row["ttft_service_ms"]) for row in csv.DictReader(file) if row["ttft_service_ms"]]
    causes = document["measurement"]["invalid_because"]
    more = f" (and {len(causes) - 1} more causes)" if len(causes) > 1 else ""
    said = [] if document["measurement"]["valid"] else [f"INVALID: {causes[0]}{more}"]
    if any("read merged" in warning for warning in document["warnings"]):
        said.append("some ITL quantiles not shown: too many events read merged")
    return Told(quantiles(found), tuple(said))


TOOL = Tool("streamgauge", lambda: None, lambda: __version__, command, read, warm_up=2)
