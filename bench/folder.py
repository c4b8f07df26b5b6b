"""Run folders that nobody measured: the plan of a real run against the simulator, with Samples of one's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from streamgauge.clock import SystemClock
from streamgauge.dialects import with_options
from streamgauge.journal import Journal
from streamgauge.sample import Sample, SampleWriter
from streamgauge.spec.load import Spec, load_spec
from streamgauge.spec.resolve import resolve
from streamgauge.spec.settings import Overrides
from streamgauge.suite.demo import SPEC
from streamgauge.suite.execute import head_of
from streamgauge.suite.folder import create
from streamgauge.suite.prepare import Prepared, prepare

NOWHERE = "http://127.0.0.1:9"


def planned(test: str, *, preset: str = "smoke", seed: int = 1) -> Prepared:
    """The plan and criteria that `streamgauge demo` has."""
    return prepare(resolve(spec(NOWHERE), None, {}, test, Overrides(preset=preset)), seed)


def spec(url: str) -> Spec:
    """The demo's spec: three providers, all at `url`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "streamgauge.toml"
        path.write_text(SPEC.format(url=url), "utf-8")
        return load_spec(path, speak=with_options, environ={})


def written(
    root: Path, prepared: Prepared, samples: Iterable[Sample], phases: Iterable[tuple[str, int, int]], end_ns: int
) -> Path:
    """A run's folder under `root`. `phases`: (name, level, start), the drain included."""
    phases = list(phases)
    head = head_of(prepared, SystemClock(), root, "streamgauge demo", None, 1 << 16)
    folder = create(msgspec.structs.replace(head, start_ns=phases[0][2]), root)
    journal = Journal(folder)
    journal.add("round", number=0)
    for name, level, at_ns in phases:
        journal.add("phase", name=name, level=level, at_ns=at_ns)
    journal.add("end", at_ns=end_ns, stopped_by=None, partial=False)
    journal.close()
    writer = SampleWriter(folder / "samples-0-0.sgs")
    for n, sample in enumerate(samples):
        writer.add(sample)
        if n % 1_000 == 0:
            writer.flush()
    writer.close()
    return folder
