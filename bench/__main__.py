"""`python -m bench`: every benchmark; `python -m bench NAME [options]`: one of them.

Each prints one Markdown table, what it ran on, and the bounds it is held to. `--write PAGE` before the name puts it in
its place in that page (docs/benchmarks.md) as well. Ends 1 where a bound is broken. What is compared was measured in
one run, so that a slower or busier machine changes both sides.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from bench.found import Machine
from bench.page import marked, write

NAMES = {
    "startup": "how long the command line takes to answer",
    "decode": "processor time an event from bytes to meaning, in process, against json.loads",
    "truth": "what is measured under load, beside a C client, against a server in C that is on time",
    "slack": "every event's stamp and slack against the write that sent it",
    "peers": "other load clients and ours, by what each tells and what it takes",
    "accuracy": "what is measured against the simulator's truth log, in every dialect",
    "silent": "whether a run is ever wrong and does not say so: load x disturbance, against the server in C",
    "cost": "processor time a text event, against a C client that decodes nothing",
    "scale": "how many streams are held open, and the memory each takes",
    "openloop": "1,000 arrivals a second: how late they start, and where the wait goes when they cannot",
    "judge": "from samples on disk to written reports: time and memory",
    "long": "memory and files of a run with as many events as 8 hours of 10 streams give",
    "simulator": "how late the simulator sends at 1,000 streams",
    "fuzz": "hostile streams: wild bytes in every dialect, with known truth where there is one",
    "decides": "how often ttft and concurrent pass a healthy service",
    "levels": "capacity from level tables of known truth: bias, width and coverage of three intervals",
    "signs": "false alarms and power of the warning signs within a run, over generated runs",
    "leaks": "false alarms and power of the memory criteria, over generated series",
}


def main(arguments: list[str]) -> int:
    """Run what was asked for; 1 where a bound is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put each section in its place in this page too")
    verbs = parser.add_subparsers(dest="name", metavar="NAME", title="benchmarks")
    # A benchmark that is named and not asked for is not even imported.
    named = [name for name in NAMES if name in arguments] or list(NAMES)
    modules = {name: import_module(f"bench.{name}") for name in named}
    for name, words in NAMES.items():
        about = modules[name].__doc__ if name in modules else words
        one = verbs.add_parser(name, help=words, description=about,
                               formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip
        if name in modules:
            modules[name].options(one)
    chosen = parser.parse_args(arguments)
    wanted = [chosen] if chosen.name else [parser.parse_args([name]) for name in NAMES]
    unmarked = _unmarked(chosen.write, [asked.name for asked in wanted])
    if unmarked:
        parser.error(unmarked)
    return in_turn([(modules[asked.name], asked) for asked in wanted], chosen.write)


def _unmarked(page: Path | None, names: list[str]) -> str | None:
    """Why what these will print has no place in the page; it is better told before an hour than after."""
    if page is None:
        return None
    if not page.is_file():
        return f"--write {page}: no such file"
    there = marked(page.read_text("utf-8"))
    missing = next((name for name in names if name not in there), None)
    return missing and f"--write {page}: it has no line `<!-- bench {missing} -->`; add one, and `<!-- end -->`"


def in_turn(wanted: Sequence[tuple[object, argparse.Namespace]], page: Path | None) -> int:
    """Each of them; the worst exit code. Of several, one that fails is told and takes none of the others with it."""
    worst = 0
    for module, asked in wanted:
        try:
            worst = max(worst, _one(module, asked, page))
        except Exception:
            if len(wanted) == 1:
                raise
            print(f"### {asked.name}: failed, see the error output\n", flush=True)
            traceback.print_exc()
            worst = 1
    return worst


def _one(module: object, asked: argparse.Namespace, page: Path | None) -> int:
    """One benchmark, printed as a section of docs/benchmarks.md, and put there."""
    print(f"bench {asked.name}", file=sys.stderr)
    machine = Machine()
    found = module.measure(asked)  # type: ignore[attr-defined]  # each module of NAMES has it
    section = found.markdown(machine.said())
    print(section, flush=True)
    if page is not None:
        write(page, asked.name, section)
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
