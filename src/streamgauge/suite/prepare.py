"""A resolved spec to a run that may start: engine values, the plan, its estimate, and the manners that hold it back.

Rules: nothing is sent here. A plan above a hard stop does not start (exit 2, naming key and value). Preflight resolves,
connects and speaks TLS, and sends no request (exit 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streamgauge.arrivals import Rate, most_within
from streamgauge.check.knock import find_way
from streamgauge.check.way import way_findings
from streamgauge.clock import Clock, S
from streamgauge.dialects.contract import Ask
from streamgauge.errors import TargetError, UsageError
from streamgauge.guard import Limits as RunLimits
from streamgauge.load import Load, workers_for
from streamgauge.net import tls_context
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.reports.document import Calibration
from streamgauge.spec.presets import Settings
from streamgauge.spec.resolved import Resolved, ResolvedTarget
from streamgauge.stream import Limits
from streamgauge.suite.estimate import Estimate, estimate_of, input_tokens
from streamgauge.suite.probing import check_files
from streamgauge.suite.seen import key_of, recall
from streamgauge.suite.tests import TESTS
from streamgauge.target import Target, Tls
from streamgauge.verdict import Criterion, gates

DESCRIPTORS_SPARE = 64
NO_PROBE = """\
{test} is about the server's memory, and no probe reads it. Where the server runs on this machine: --probe port:3000, or

  [probes.server]
  kind = "process"
  port = 3000

Elsewhere ship one of the handlers in docs/examples/probes/, and: --probe https://HOST/api/probe, or

  [probes.web]
  kind = "json"
  path = "/api/probe"
  headers = {{ authorization = "Bearer ${{PROBE_TOKEN}}" }}

docs/probes.md says more; streamgauge check shows what a probe sees."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that may start."""

    resolved: Resolved
    load: Load
    criteria: tuple[Criterion, ...]
    confidence: float
    estimate: Estimate
    notes: tuple[str, ...]
    calibration: Calibration | None = None


def prepare(resolved: Resolved, seed: int, root: Path = Path(), calibration: Calibration | None = None) -> Prepared:
    """Everything but the network: UsageError where the plan is above a hard stop or cannot be.

    What `check` saw of a target is looked up under `root`. calibration: what is known of this machine.
    """
    settings = resolved.settings
    test = TESTS[settings.test]
    if test.needs_probe and not resolved.probes:
        raise UsageError(NO_PROBE.format(test=settings.test))
    if test.needs is not None:
        test.needs(settings)
    if test.careful and resolved.kind == "production" and not settings.allow_production:
        raise UsageError(_spared(resolved))
    names = tuple(t.name for t in resolved.targets)
    controls = tuple(t.name for t in resolved.controls)
    phases = test.phases(settings, names, controls)
    later = () if test.later is None else test.later(settings, names, controls)
    targets = targets_of(resolved)
    for target in targets:
        if target.secure or (target.proxy is not None and target.proxy.secure):
            tls_context(target.tls)  # so that an unusable file is told before anything is connected to
    check_files(resolved)
    estimate = estimate_of(resolved, targets, (*phases, *later), {t.name: recall(root, key_of(t)) for t in targets})
    _hold_back(resolved, estimate, phases)
    price = {
        t.name: (t.usd_per_mtok.input, t.usd_per_mtok.output)
        for t in (*resolved.targets, *resolved.controls)
        if t.usd_per_mtok is not None
    }
    stops = resolved.limits
    load = Load(
        targets=targets,
        prompts={name: tuple(found.texts) for name, found in resolved.prompts.items()},
        phases=phases,
        seed=seed,
        limits=RunLimits(
            requests=None if stops.requests is None else int(stops.requests.value),
            tokens=None if stops.tokens is None else int(stops.tokens.value),
            usd=None if stops.usd is None else stops.usd.value,
            usd_per_mtok=price,
            input_tokens={t.name: round(input_tokens(resolved, t)) for t in targets},
        ),
        secrets=resolved.secrets,
        grace_ns=round(settings.timeouts.drain_s * S),
        unjudged=test.forgiven,
    )
    confidence = 0.975 if settings.double else 0.95
    hold_s = sum(took for phase, took in zip(phases, estimate.phases_s, strict=False) if phase.name == "hold")
    return Prepared(
        resolved=resolved,
        load=load,
        criteria=tuple(_criteria(resolved, estimate.sends, hold_s, confidence)),
        confidence=confidence,
        estimate=estimate,
        notes=(*_notes(resolved), *filter(None, map(_model_note, targets)), *_beyond(estimate, calibration)),
        calibration=calibration,
    )


def _spared(resolved: Resolved) -> str:
    """Why a test does not start against production."""
    test, where = resolved.settings.test, resolved.environment or ", ".join(resolved.guarded) or "this host"
    return (
        f"{test} does not start: {where} counts as production, and {test} wears a service down. Run it against staging "
        f'(kind = "staging" in [environments.NAME]), or write allow_production = true into [tests.{test}]'
    )


def targets_of(resolved: Resolved) -> tuple[Target, ...]:
    """The engine's view of every target and control."""
    settings = resolved.settings
    return (
        *(_target(found, settings, control=False) for found in resolved.targets),
        *(_target(found, settings, control=True) for found in resolved.controls),
    )


def _target(found: ResolvedTarget, settings: Settings, *, control: bool) -> Target:
    """The engine's view of a target."""
    times = settings.timeouts

    def ns(seconds: float | None) -> int | None:
        return None if seconds is None else round(seconds * S)

    return Target(
        name=found.name,
        scheme=found.scheme,
        host=found.host,
        port=found.port,
        path=found.path,
        dialect=found.dialect,
        options=dict(found.dialect_options),
        model=found.model,
        headers=tuple((h.name, h.value) for h in found.headers),
        body=found.body,
        extra=dict(found.extra),
        system=found.system,
        max_tokens=settings.max_tokens,
        include_usage=found.include_usage,
        unique=settings.unique_prefix,
        tls=msgspec.convert({key: getattr(found.tls, key) for key in Tls.__struct_fields__}, Tls),
        expect=found.expect,
        limits=Limits(
            connect_ns=round(times.connect_s * S),
            first_output_ns=round(times.first_token_s * S),
            stall_ns=round(times.stall_s * S),
            total_ns=ns(times.total_s),
        ),
        rpm=found.rpm,
        control=control,
        socket=found.socket,
        proxy=found.proxy,
        proxy_note=found.proxy_note,
    )


def _hold_back(resolved: Resolved, estimate: Estimate, phases: tuple[Phase, ...]) -> None:
    """Refuse a plan above a hard stop or faster than a target's pace, all of them named at once."""
    stops = resolved.limits
    wrong = _too_fast(resolved, phases)
    for what, planned, stop in (
        ("streams", float(estimate.streams), stops.streams),
        ("requests", float(estimate.requests), stops.requests),
        ("tokens", float(estimate.input_tokens + estimate.output_tokens), stops.tokens),
        ("usd", estimate.usd, stops.usd),
    ):
        if stop is not None and planned is not None and planned > stop.value:
            shown = f"{planned:,.2f}" if what == "usd" else f"{planned:,.0f}"
            wrong.append(
                f"  the plan wants {shown} {what}; the hard stop is {stop.value:,g} ({stop.key}). Ask for less "
                "(--requests, --concurrency, --preset smoke), or raise the stop in [environments.NAME.max]"
            )
    if wrong:
        raise UsageError("this plan does not start:\n" + "\n".join(wrong))


def _too_fast(resolved: Resolved, phases: tuple[Phase, ...]) -> list[str]:
    """Open loop sends whatever happens, so a rate above a target's rpm cannot be paced."""
    rpm = {t.name: t.rpm for t in (*resolved.targets, *resolved.controls)}
    wrong = []
    for lane in (lane for phase in phases for lane in phase.lanes):
        for name in lane.targets:
            most = rpm[name]
            if isinstance(lane.load, Hold) or most is None:
                continue
            each = _most_a_minute(lane) / len(lane.targets)
            if each <= most * (1 + 1e-9):
                continue
            load = resolved.settings.open_loop
            if isinstance(load, Rate):
                way = "reaches" if load.course else "="
                told = f"rate {way} {load.highest:g} a second sends {name} {each:g} requests a minute"
                step = f"at most --rate {math.floor(load.highest * most / each * 1000) / 1000:g}"
                step = f"at most {step[15:]} a second" if load.course else step
            else:
                told = f"the trace sends {name} {each:g} requests in its densest minute"
                step = "a thinner one"
            wrong.append(f"  {told}; targets.{name}.rpm is {most:g}. Ask for {step}, or raise rpm")
    return wrong


def _most_a_minute(lane: Lane) -> float:
    """Requests of an open-loop lane in its densest minute; a rate counts as if it stayed at its highest."""
    assert not isinstance(lane.load, Hold)
    return lane.load.highest * 60 if isinstance(lane.load, Rate) else most_within(lane.load, 60 * S)


def _criteria(
    resolved: Resolved, sends: Mapping[str, Mapping[str, float]], hold_s: float, confidence: float
) -> list[Criterion]:
    """The criteria with their planned n and whether they gate: fixed before the first request."""
    test, made = TESTS[resolved.settings.test], []
    for one in resolved.criteria:
        planned = _planned_n(resolved.settings, sends, one.target, one.prompt is not None, one.phase or "hold")
        plain = Criterion(
            name=one.name, metric=one.metric, stat=one.stat, op=one.op, limit=one.limit, unit=one.unit,
            target=one.target, prompt=one.prompt, phase=one.phase, advisory=one.advisory, planned_n=planned,
            severity=one.severity,
        )  # fmt: skip
        gating = not one.advisory and one.may_gate and gates(plain, planned, confidence)
        gating = gating and (test.decides is None or test.decides(resolved.settings, one.metric, hold_s))
        made.append(msgspec.structs.replace(plain, gating=gating))
    return made


def _planned_n(
    settings: Settings, sends: Mapping[str, Mapping[str, float]], target: str | None, one_prompt: bool, phase: str
) -> int:
    """Requests that a criterion will have, by the plan; where only time ends a phase, by the guessed pace."""
    sent = sends.get(phase, {})
    n = sum(sent.get(name, 0.0) for name in (settings.targets if target is None else (target,)))
    return int(n / (len(settings.prompts) if one_prompt else 1) + 1e-9)


def _notes(resolved: Resolved) -> list[str]:
    """What a reader of the report must know of the set-up."""
    notes = []
    for target in (*resolved.targets, *resolved.controls):
        if target.scheme == "https" and not target.tls.verify:
            notes.append(f"{target.name}: the server's certificate was not verified (tls.verify = false)")
        if not resolved.settings.unique_prefix:
            notes.append("prompts were sent without a mark of their own: caches may have flattered TTFT")
        if target.proxy is not None:
            notes.append(f"{target.name}: through the proxy {target.proxy.shown}, whose time is part of every number")
        if target.rpm is not None:
            notes.append(
                f"{target.name}: paced to {target.rpm:g} requests a minute (rpm); waiting for that is no part of TTFT"
            )
    notes += [f"{host} is public and no environment names it: treated as production" for host in resolved.guarded]
    return list(dict.fromkeys(notes))


def streams_of(estimate: Estimate) -> int:
    """Streams that a plan will have open at once: its level, or what its arrivals make of it, up to the cap."""
    return estimate.streams if estimate.most_open is None else min(estimate.streams, estimate.most_open)


def _beyond(estimate: Estimate, calibration: Calibration | None) -> list[str]:
    """That this machine was not found able to measure so much."""
    if calibration is None or calibration.stale is not None:
        return []
    streams, held = streams_of(estimate), calibration.streams or 0
    if streams <= held:
        return []
    told = f"{streams:,} streams are planned, and this machine was calibrated for {held:,} ({calibration.at[:10]})"
    return [f"{told}: beyond that its numbers are not known to hold; streamgauge check --calibrate tries"]


def _model_note(target: Target) -> str | None:
    """That a target's model goes nowhere, or that a request which could name one names none."""
    mark = "streamgauge-mark"
    asked = target.speaks().request(
        target.path,
        Ask("", model=mark, max_tokens=target.max_tokens, body=target.body, extra=target.extra, system=target.system),
    )
    whole = b"\n".join((asked.path.encode(), asked.body, *(value.encode() for _, value in target.headers)))
    if target.model is None:
        if mark.encode() not in whole:
            return None
        return f"{target.name}: no model is named (--model, or model in the spec): the server picks one or refuses"
    if mark.encode() in whole or target.model.encode() in whole:
        return None
    return f"{target.name}: model {target.model} is only a label here: the request does not carry it"


def descriptors_needed(streams: int) -> int:
    """Descriptors that each worker wants for so many streams in all."""
    return streams // workers_for(streams) + DESCRIPTORS_SPARE


def beyond_descriptors(streams: int, limit: int, concurrency: int) -> str | None:
    """That this machine's descriptor limit cannot hold so many streams, and the way out; None where it can.

    concurrency: what was asked for, of which the plan makes `streams` (a burst is a multiple of it).
    """
    needed = descriptors_needed(streams)
    if needed <= limit:
        return None
    held = max((limit - DESCRIPTORS_SPARE) * concurrency // streams, 1)
    return (
        f"the plan wants {streams:,} streams, about {needed:,} descriptors a worker; the limit here is {limit:,} "
        f"(ulimit -n). Ask for fewer (--concurrency {held}) or raise the limit"
    )


def check_descriptors(streams: int, limit: int, concurrency: int) -> None:
    """Refuse a plan that this machine's descriptor limit cannot hold."""
    words = beyond_descriptors(streams, limit, concurrency)
    if words is not None:
        raise UsageError(words)


def preflight(load: Load, clock: Clock) -> Load:
    """Resolve every name, connect to its addresses and speak TLS; no request is sent. TargetError where none is usable.

    What it says is what `check` says.
    """
    return msgspec.structs.replace(load, targets=tuple(_reached(target, clock) for target in load.targets))


def _reached(target: Target, clock: Clock) -> Target:
    way = find_way(target, clock)
    if way.usable:
        return msgspec.structs.replace(target, addresses=way.addresses)
    *_, last = way_findings(target, way, clock.wall() / S)
    error = way.error or next(knock.error for knock in way.knocks if knock.error is not None)
    where = f"{target.host}:{target.port}: "
    raise TargetError(
        f"{target.name}: {'' if last.text.startswith(where) else where}{error.outcome}: {last.text}",
        target=target.name,
        stage=last.what,
        next_step=last.next or "see the words above",
    )
