"""The common form of the tools that are compared: how each is started, and how what it reported is read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.found import at

ROOT = Path(__file__).parents[2]
INSTALLED = Path(os.environ.get("PEERS", ROOT / ".peers")).resolve()
"""Where scripts/peers-setup puts each tool, an environment of its own; PEERS names another clone's."""
HERE = Path(__file__).parent
OUTPUT = "output.txt"
"""What a tool printed, in the case's folder."""
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Case:
    """One run to be made: `streams` at a time, `requests` in all, against the server at `port`."""

    port: int
    streams: int
    requests: int
    model: str
    folder: Path
    """An empty folder: the tool is started in it."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def chat(self) -> str:
        return f"{self.base}/v1/chat/completions"

    def output(self) -> str:
        """What the tool printed."""
        return (self.folder / OUTPUT).read_text("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Told:
    """What a tool reported: TTFT in ms at p50, p95 and p99 (None where it tells none), and what it said of itself."""

    ttft_ms: tuple[float | None, ...]
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    `missing` says why it cannot run here, None if it can. `command` makes what the tool needs in the case's folder and
    gives its words. `read` takes its report; what cannot be read is a run that failed (OSError, ValueError, KeyError).
    """

    name: str
    missing: Callable[[], str | None]
    version: Callable[[], str]
    command: Callable[[Case], Sequence[str]]
    read: Callable[[Case], Told]
    warm_up: int = 0
    """Requests it sends before those that it reports."""


def python_of(tool: str) -> Path:
    """The folder of the commands that are installed with it."""
    return INSTALLED / tool / "bin"


def not_installed(tool: str) -> str | None:
    """Why it cannot run here."""
    return None if (python_of(tool) / "python").exists() else f"not installed (scripts/peers-setup {tool})"


def version_of(tool: str, package: str) -> str:
    """The version of a package in the tool's environment."""
    found = (INSTALLED / tool).glob(f"lib/python*/site-packages/{package.replace('-', '_')}-*.dist-info")
    return next((path.name.removesuffix(".dist-info").rpartition("-")[2] for path in found), "unknown")


def with_tokenizer(tool: str, case: Case) -> str:
    """The name of a tokenizer that lies beside the run, so that the tool asks no model hub."""
    (case.folder / "words").symlink_to(INSTALLED / tool / "words")
    return "words"


def quantiles(values: Iterable[float]) -> tuple[float | None, ...]:
    """p50, p95, p99, each None where there are no values."""
    ordered = sorted(values)
    return tuple(at(ordered, share) if ordered else None for share in QUANTILES)


def counted(sayings: Iterable[str]) -> tuple[str, ...]:
    """Each saying once, with how often it came."""
    return tuple(f"{words} ({n} times)" if n > 1 else words for words, n in Counter(sayings).items())
