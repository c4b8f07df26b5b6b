"""A spec's probes beside a run: made of plain values, looked at once before it starts, and told of after it.

Rules: a probe that gives no reading never stops a run that can be judged without: the report says what was not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from streamgauge.clock import Clock
from streamgauge.errors import TargetError
from streamgauge.probes.contract import TIMEOUT_S, Asking, OfJson, OfProcess, Place, Source
from streamgauge.probes.kinds import kind_of, probe_of
from streamgauge.probes.watch import Probe
from streamgauge.reports.document import Probed
from streamgauge.sample import Reading
from streamgauge.spec.resolved import Resolved, ResolvedProbe
from streamgauge.target import Target, Tls
from streamgauge.tls import tls_context


def source_of(found: ResolvedProbe) -> Source:
    """The engine's view of a probe."""
    url = found.url
    if url is None:
        return OfProcess(pid=found.pid, port=found.port, command=found.command)
    return OfJson(
        target=Target(
            name=found.name, scheme=url.scheme, host=url.host, port=url.port, path=url.path or "/", dialect="",
            headers=tuple((h.name, h.value) for h in found.headers), socket=url.socket, proxy=found.proxy,
            tls=msgspec.convert({key: getattr(found.tls, key) for key in Tls.__struct_fields__}, Tls),
        ),
        method=found.method, body=found.body, collect=found.collect, timeout_s=found.timeout_s or TIMEOUT_S,
        places={name: Place(keys, times) for name, (keys, times) in found.places.items()},
    )  # fmt: skip


def check_files(resolved: Resolved) -> None:
    """UsageError where a certificate file of a probe cannot be used: told before anything is connected to."""
    for found in resolved.probes:
        source = source_of(found)
        if isinstance(source, OfJson) and source.target.secure:
            tls_context(source.target.tls)


def probes_for(resolved: Resolved, clock: Clock) -> tuple[Probe, ...]:
    """Every probe of the test, ready to be asked."""
    made = []
    for found in resolved.probes:
        source = source_of(found)
        collects = isinstance(source, OfJson) and source.collect is not None
        made.append(Probe(found.name, probe_of(source, clock), clock, resolved.redactor.text, collects))
    return tuple(made)


def first_looks(probes: Sequence[Probe]) -> tuple[Reading, ...]:
    """One reading of each, all at the same time."""
    if not probes:
        return ()
    with ThreadPoolExecutor(len(probes)) as pool:
        return tuple(pool.map(lambda probe: probe.read(Asking()), probes))


def silent(looks: Sequence[Reading], *, needed: bool) -> tuple[str, ...]:
    """The probes that gave no reading, a sentence each. TargetError where one is `needed` and none gave any."""
    failed = [look for look in looks if look.error is not None]
    words = tuple(f"probe {look.probe} gives no reading: {look.error}" for look in failed)
    if needed and len(failed) == len(looks):
        raise TargetError(
            "; ".join(words), target=", ".join(look.probe for look in failed), stage="probe",
            next_step="streamgauge check shows what each probe sees; docs/probes.md how to add one",
        )  # fmt: skip
    return words


def described(resolved: Resolved) -> list[dict[str, str]]:
    """What each probe reads, for the run's head: name, kind, and where."""
    told = []
    for found in resolved.probes:
        source = source_of(found)
        told.append({"name": found.name, "kind": kind_of(source), "reads": resolved.redactor.text(source.shown)})
    return told


def probed(described: Sequence[dict[str, str]], readings: Sequence[Reading]) -> list[Probed]:
    """What the probes of a run gave."""
    found = []
    for one in described:
        mine = [reading for reading in readings if reading.probe == one["name"]]
        good = [reading for reading in mine if reading.error is None]
        failed = [reading.error for reading in mine if reading.error is not None]
        found.append(
            Probed(
                name=one["name"], kind=one["kind"], reads=one["reads"], readings=len(good), failed=len(failed),
                instances=sorted({reading.instance for reading in good if reading.instance}),
                gauges=sorted({name for reading in good for name in reading.values}),
                error=max(set(failed), key=failed.count) if failed else None,
            )
        )  # fmt: skip
    return found


def unread(probes: Sequence[Probed]) -> list[str]:
    """What a reader must know of probes that did not give all."""
    notes = []
    for one in probes:
        if one.failed:
            told = f"{one.failed} of {one.failed + one.readings} readings failed, mostly so: {one.error}"
            notes.append(f"probe {one.name}: {told}")
        elif not one.readings:
            notes.append(f"probe {one.name}: the run ended before it was read")
    return notes
