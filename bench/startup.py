"""How long the command line takes to answer: `python -c pass`, help, version, a dry run; compiled modules at hand.

The commands take turns, so that what else the machine does hits all alike. The bound holds the fastest of them: what
others add to a run is not ours.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.found import Bound, Found, at

HELP_MS = 150.0
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "streamgauge --help": ("-m", "streamgauge", "--help"),
    "streamgauge --version": ("-m", "streamgauge", "--version"),
    "streamgauge run --help": ("-m", "streamgauge", "run", "--help"),
    "streamgauge run --url ... --dry-run": (
        "-m", "streamgauge", "run", "--url", "http://127.0.0.1:9/v1/chat/completions", "--model", "m", "--dry-run",
    ),
}  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=15, help="of each command")


def measure(asked: argparse.Namespace) -> Found:
    walls: dict[str, list[float]] = {name: [] for name in COMMANDS}
    cpus: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        environ = environment(Path(folder))
        for turn in range(asked.times + 1):
            for name, command in COMMANDS.items():
                wall, cpu = timed((sys.executable, *command), folder, environ)
                if turn:  # the first one compiles
                    walls[name].append(wall)
                    cpus[name].append(cpu)
    for values in (*walls.values(), *cpus.values()):
        values.sort()
    rows = []
    bare = at(walls["python -c pass"], 0.5)
    for name in COMMANDS:
        fastest, usual = walls[name][0], at(walls[name], 0.5)
        rows.append(
            (f"`{name}`", f"{fastest:.0f}", f"{usual:.0f}", f"{usual / bare:.1f}", f"{at(cpus[name], 0.5):.0f}")
        )
    best = walls["streamgauge --help"][0]
    return Found(
        f"Start-up: {asked.times} times each, in turn",
        ("command", "fastest ms", "median ms", "median / bare Python", "processor ms"),
        rows,
        (Bound(f"--help in {best:.0f} ms at its fastest, limit {HELP_MS:.0f}", best <= HELP_MS),),
    )


def environment(cache: Path) -> dict[str, str]:
    """This one, with compiled modules as a user has them: in `cache` where this environment forbids to write them."""
    drop = ("PYTHONDONTWRITEBYTECODE", "STREAMGAUGE_", "CI")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    return {**kept, "PYTHONPYCACHEPREFIX": str(cache)} if sys.dont_write_bytecode else kept


def timed(command: tuple[str, ...], folder: str, environ: dict[str, str]) -> tuple[float, float]:
    """(wall, processor) ms of a command that must succeed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall * 1e3, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3
