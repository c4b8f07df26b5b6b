"""The benchmarks do not rot: each runs at a tiny size and prints its table. Their figures are not judged here."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from bench.__main__ import NAMES
from bench.openloop import punctual

ROOT = Path(__file__).parent.parent
QUICK = ("--model", "sim-t20-i10-n10", "--streams", "4", "--ramp-s", "0.2")
TINY = {
    "startup": ("--times", "1"),
    "decode": ("--events", "20", "--times", "1"),
    "accuracy": (*QUICK, "--dialects", "--rounds", "12"),
    "silent": ("--streams", "4", "--rounds", "30", "--model", "sim-t20-i10-n10", "--disturbed-by", "none"),
    "truth": (*QUICK, "--herd", "4", "--varied", "4", "--rounds", "12", "--limit", "8"),
    "slack": (*QUICK, "--rounds", "3"),
    "peers": (*QUICK[:4], "--tools", "streamgauge", "c-epoll", "fetch", "--rounds", "2"),
    "cost": (*QUICK, "--rounds", "12", "--times", "1"),
    "scale": ("--streams", "6", "--descriptors", "68", "--ramp-s", "0.5", "--hold-s", "3"),
    "judge": ("--requests", "60", "--times", "1"),
    "simulator": ("--streams", "5", "--tokens", "5"),
    "fuzz": ("--cases", "40", "--seed", "1"),
    "openloop": ("--rate", "50", "--seconds", "1"),
    "leaks": ("--series", "2"),
    "decides": ("--tests", "ttft", "--drawn", "2", "--real", "1", "--requests", "2"),
    "long": ("--flood", "11", "--singly", "10", "--events", "300", "--singly-events", "300"),
    "levels": ("--tables", "7", "--draws", "19"),
    "signs": ("--runs", "4"),
}


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """All at once: they mostly wait."""
    command = (sys.executable, "-m", "bench")
    processes = {
        name: subprocess.Popen(
            (*command, name, *tiny), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name, tiny in TINY.items()
    }
    yield processes
    for process in processes.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_prints_its_table_and_its_machine(name: str, running: dict[str, subprocess.Popen[str]]) -> None:
    process = running[name]
    out, err = process.communicate(timeout=900)
    assert out, err
    assert (process.returncode == 1) == ("BROKEN" in out)
    lines = out.splitlines()
    assert lines[0].startswith("### ")
    assert "cores" in lines[2]
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) >= 3
    assert len({line.count(" | ") for line in table}) == 1
    assert all(cell.strip() for line in table for cell in line.strip("| ").split("|"))


def test_every_option_of_every_benchmark_is_explained() -> None:
    def wide(prog: str) -> argparse.HelpFormatter:
        return argparse.HelpFormatter(prog, max_help_position=900, width=2000)

    for name in NAMES:
        parser = argparse.ArgumentParser(add_help=False, formatter_class=wide)
        import_module(f"bench.{name}").options(parser)
        lines = [line for line in parser.format_help().splitlines() if line.startswith("  --")]
        assert lines, name
        for line in lines:
            assert re.search(r"\S  +\S", line), f"{name}: {line.strip()} says nothing"


def test_every_benchmark_is_listed_and_tried_here() -> None:
    done = subprocess.run(
        (sys.executable, "-m", "bench", "--help"), cwd=ROOT, capture_output=True, text=True, timeout=300, check=True
    )
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ") and line.strip()}
    assert set(TINY) <= listed
    assert set(TINY) == set(NAMES)


@pytest.mark.parametrize(
    ("late_ms", "control_ms", "holds", "said"),
    [
        (0.9, 0.4, True, "limit 1.00 ms (the machine was free)"),
        (1.2, 1.0, False, "limit 1.00 ms (the machine was free)"),
        (2.2, 1.3, True, "limit 2.30 ms (the machine was not free"),
        (2.4, 1.3, False, "limit 2.30 ms (the machine was not free"),
    ],
)
def test_lateness_is_held_against_the_control_where_the_machine_was_not_free(
    late_ms: float, control_ms: float, holds: bool, said: str
) -> None:
    bound = punctual(late_ms, control_ms)
    assert bound.holds is holds
    assert said in bound.words
