"""The house's shape: which half may import which, no cycles, and nothing heavy behind `--help`."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "streamgauge"

GROUND = {
    "errors",
    "clock",
    "sample",
    "metrics",
    "secrets",
    "arrivals",
    "wild",
    "proxies",
    "shares",
    "spans",
    "__init__",
}
TOP = {"__main__"}
LEFT = {
    "prompts", "plan", "compiled", "sse", "who", "http1", "drain", "alike", "redirect", "dialects", "foreign", "stream",
    "output", "chat", "target", "fault", "tls", "net", "tunnel", "dial", "line", "loop", "control", "schedule", "audit",
    "worker", "hand", "journal", "guard", "load", "run", "client", "probes",
}  # fmt: skip
RIGHT = {
    "bulk", "facts", "columns", "connections", "stats", "slices", "occupancy", "evidence", "doubt", "sentences",
    "summary", "series", "compare", "capacity", "degradation", "strain", "verdict", "findings", "reports", "slope",
    "trend", "held", "memory", "lives", "bins", "heat", "strips", "courses",
}  # fmt: skip
BOTH = {"suite", "check", "calibrate", "progress", "cli"}
APART = {"simulator", "spec"}


@cache
def modules() -> dict[str, Path]:
    """Dotted name inside the package -> file."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


@cache
def imports(name: str, *, lazy: bool = False) -> frozenset[str]:
    """Package modules that `name` imports when it is loaded (`lazy`: also inside functions)."""
    tree = ast.parse(modules()[name].read_text("utf-8"))
    nodes = list(ast.walk(tree)) if lazy else list(_top_level(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("streamgauge"):
            base = node.module.removeprefix("streamgauge").lstrip(".") or "__init__"
            for alias in node.names:
                inner = f"{base}.{alias.name}" if base != "__init__" else alias.name
                found.add(inner if inner in modules() else base)
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("streamgauge.") for a in node.names if a.name.startswith("streamgauge.")}
    return frozenset(found - {name})


def _top_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements run at import, less those under TYPE_CHECKING."""
    out: list[ast.stmt] = []
    stack = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            stack += node.orelse
        elif isinstance(node, ast.If | ast.Try | ast.With):
            stack += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        else:
            out.append(node)
    return out


def part(name: str) -> str:
    return name.partition(".")[0]


def test_every_module_has_its_place_in_the_house() -> None:
    known = GROUND | TOP | LEFT | RIGHT | BOTH | APART
    assert {part(name) for name in modules()} <= known


@pytest.mark.parametrize(
    ("of", "never"),
    [
        (LEFT, RIGHT | BOTH | {"spec", "simulator"}),
        (RIGHT, LEFT | BOTH | {"spec", "simulator"}),
        (GROUND, LEFT | RIGHT | BOTH | APART),
        ({"simulator"}, (GROUND - {"errors", "clock", "__init__"}) | LEFT | RIGHT | BOTH | {"spec"}),
        ({"spec"}, LEFT | RIGHT | BOTH | {"simulator"}),
        (LEFT | RIGHT | GROUND | APART | (BOTH - {"cli"}), {"cli"}),
    ],
    ids=["left never right", "right never left", "ground is below all", "simulator apart", "spec apart", "cli on top"],
)
def test_imports_go_one_way(of: set[str], never: set[str]) -> None:
    wrong = [
        f"{name} imports {other}"
        for name in modules()
        if part(name) in of and name != "__init__"
        for other in imports(name, lazy=True)
        if part(other) in never
    ]
    assert not wrong, wrong


def test_files_of_one_kind_never_import_each_other() -> None:
    wrong = []
    for folder, shared in (
        ("dialects", {"contract", "errors", "template", "wild"}),
        (
            "reports",
            {
                "document",
                "view",
                "cells",
                "criteria",
                "targets",
                "numbers",
                "quality",
                "lasting",
                "causes",
                "levels",
                "suite_document",
                "suite_view",
                "escalation",
                "wording",
                "charts",
                "figures",
                "svg",
                "files",
            },
        ),
    ):
        forms = [n for n in modules() if n.startswith(f"{folder}.") and n.split(".")[1] not in shared]
        wrong += [f"{a} imports {b}" for a in forms for b in imports(a, lazy=True) if b in forms]
    assert not wrong, wrong


def test_there_is_no_import_cycle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " > ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for other in imports(name):
            if other != "__init__":
                visit(other, (*path, name))
        done.add(name)

    for name in modules():
        visit(name, ())


def test_only_the_clock_reads_the_machines_clocks() -> None:
    allowed = {"clock", "audit", "simulator"}
    readers = {"monotonic", "monotonic_ns", "time", "time_ns", "perf_counter", "perf_counter_ns"}
    wrong = []
    for name, path in modules().items():
        if part(name) in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "time"
                and node.attr in readers
            ):
                wrong.append(f"{name}:{node.lineno} time.{node.attr}")
    assert not wrong, wrong


HEAVY = ("numpy", "scipy", "pydantic", "matplotlib", "rich")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["init", "--help"], ["check", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from streamgauge.cli import cli\n"
        f"try: cli.main({arguments!r})\n"
        "except SystemExit: pass\n"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines()[-1] == "loaded []"
    assert "Examples" in done.stdout


def test_no_run_waits_for_what_only_some_tests_need() -> None:
    code = "import sys, streamgauge.reports, streamgauge.suite.execute; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
