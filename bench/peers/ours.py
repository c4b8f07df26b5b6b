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
    measurement = document["measurement"]
    said = [] if measurement["valid"] else ["verdict INVALID"]
    said += [_words(one) for one in measurement["invalid_because"]]
    said += [_words(one) for one in document["warnings"] if "too few" not in _words(one)]
    return Told(quantiles(found), tuple(said))


def _words(one: object) -> str:
    return str(one).partition("\n")[0]


TOOL = Tool("streamgauge", lambda: None, lambda: __version__, command, read, warm_up=2)
