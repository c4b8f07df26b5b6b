"""A whole run in this process: spec, preflight, load, probes and verdict.

Left out are the command line and the drawn reports, which take a core for seconds and are other tests' subject.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from cli import valid_report
from standing_still import steadily
from streamgauge.clock import SystemClock
from streamgauge.dialects import with_options
from streamgauge.journal import Journal
from streamgauge.probes.watch import Pace, watching
from streamgauge.run import conduct
from streamgauge.spec.load import load_spec
from streamgauge.spec.resolve import resolve
from streamgauge.spec.settings import Overrides
from streamgauge.suite.assess import assess
from streamgauge.suite.execute import head_of
from streamgauge.suite.folder import READINGS, create
from streamgauge.suite.prepare import preflight, prepare
from streamgauge.suite.probing import probes_for
from streamgauge.suite.tests import TESTS

AT_ONCE = threading.Semaphore(5)
"""So many runs at a time: they mostly sleep, but not at their beginnings."""


def measured(test: str, folder: Path, overrides: Overrides, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The report of one run of the spec in `folder`, as the command would measure it."""
    clock = SystemClock()
    spec = load_spec(folder / "streamgauge.toml", speak=with_options, environ=environ or {})
    resolved = resolve(spec, None, environ or {}, test, overrides)
    prepared = prepare(resolved, 1, folder)
    load = preflight(prepared.load, clock)
    kept = create(head_of(replace(prepared, load=load), clock, folder, "again", None, 1_024), folder)
    journal = Journal(kept)
    journal.add("round", number=0)
    make = TESTS[test].course
    names = tuple(one.name for one in resolved.targets)
    course = make(resolved.settings, names, list(prepared.criteria), kept) if make else None
    with watching(probes_for(resolved, clock), kept / READINGS, Pace(collect=TESTS[test].collects)):
        conduct(load, kept, clock, journal, course.hear if course else _deaf, course=course)
    journal.close()
    found: dict[str, Any] = valid_report(msgspec.json.encode(assess(kept).document).decode())
    return found


def _deaf(event: object) -> None:
    """Nobody looks at its progress."""


class Whole:
    """One run in a thread of its own, and its report. `steady`: measured again where this machine stood still."""

    def __init__(
        self, test: str, folder: Path, spec: str, environ: Mapping[str, str] | None = None, *, steady: bool = False
    ) -> None:
        self._steady = steady
        (folder / "streamgauge.toml").write_text(spec)
        self._report: dict[str, Any] = {}
        self._said: BaseException | None = None
        self._thread = threading.Thread(target=self._go, args=(test, folder, environ))
        self._thread.start()

    def _go(self, test: str, folder: Path, environ: Mapping[str, str] | None) -> None:
        try:
            with AT_ONCE:
                once = partial(measured, test, folder, Overrides(), environ)
                self._report = steadily(once) if self._steady else once()
        except BaseException as error:  # whatever it is, the test that asks for the report tells it
            self._said = error

    def wait(self) -> None:
        """Until it is over, however it ended."""
        self._thread.join()

    def ended(self) -> dict[str, Any]:
        """Its report, or what went wrong."""
        self.wait()
        if self._said is not None:
            raise self._said
        return self._report
