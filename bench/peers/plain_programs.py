"""The two small programs of the usual kind: aiohttp with uvloop, and Node's fetch."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence

from bench.peers.tool import HERE, Case, Told, Tool, not_installed, python_of, quantiles, version_of


def aiohttp_command(case: Case) -> Sequence[str]:
    return (str(python_of("aiohttp") / "python"), str(HERE / "aiohttp_client.py"), *_words(case))


def fetch_command(case: Case) -> Sequence[str]:
    return ("node", str(HERE / "fetch_client.mjs"), *_words(case))


def _words(case: Case) -> tuple[str, ...]:
    return (case.chat, case.model, str(case.streams), str(case.requests))


def read(case: Case) -> Told:
    """Both print the TTFT of each answer in one line of JSON, the last."""
    told = json.loads(case.output().strip().splitlines()[-1])
    return Told(quantiles(told["ttft_ms"]), (f"{told['failed']} requests failed",) if told["failed"] else ())


def node_missing() -> str | None:
    return None if shutil.which("node") else "no Node here"


def node_version() -> str:
    told = 'console.log(process.version + ", undici " + process.versions.undici)'
    return subprocess.run(("node", "-e", told), capture_output=True, text=True, check=True).stdout.strip()


AIOHTTP = Tool(
    "aiohttp+uvloop",
    lambda: not_installed("aiohttp"),
    lambda: f"{version_of('aiohttp', 'aiohttp')}, uvloop {version_of('aiohttp', 'uvloop')}",
    aiohttp_command,
    read,
)
FETCH = Tool("Node fetch", node_missing, node_version, fetch_command, read)
