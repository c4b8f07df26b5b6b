"""Locust with two processes and its quicker client (FastHttpUser), read line by line (locustfile.py)."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from bench.peers.tool import HERE, Case, Told, Tool, counted, not_installed, python_of, version_of

ROUND_S = 2.4
"""About what an answer takes: Locust runs for a time, not for a number of requests."""


def command(case: Case) -> Sequence[str]:
    seconds = round(ROUND_S * case.requests / case.streams) + 2
    return (
        "env", f"PEERS_MODEL={case.model}", str(python_of("locust") / "locust"), "-f", str(HERE / "locustfile.py"),
        "--host", case.base, "--headless", "-u", str(case.streams), "-r", str(case.streams), "-t", f"{seconds}s",
        "--stop-timeout", "6", "--csv", "report", "--only-summary", "--processes", "2",
    )  # fmt: skip


def read(case: Case) -> Told:
    """The TTFT row of its CSV, which it rounds to two digits; warnings of its log."""
    with (case.folder / "report_stats.csv").open(newline="", encoding="utf-8") as file:
        ttft = next(row for row in csv.DictReader(file) if row["Type"] == "TTFT")
    said = counted(re.findall(r"/WARNING/[^:]*: (.{1,90})", case.output()))
    return Told(tuple(float(ttft[name]) for name in ("50%", "95%", "99%")), said)


TOOL = Tool("Locust", lambda: not_installed("locust"), lambda: version_of("locust", "locust"), command, read)
