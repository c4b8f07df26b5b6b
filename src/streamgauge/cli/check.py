"""`streamgauge check`: two short requests a target, told line by line; then this machine and what is planned."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamgauge.cli.options import target_options
from streamgauge.cli.say import coloured, say

if TYPE_CHECKING:
    from streamgauge.check.failure import References
    from streamgauge.check.finding import Finding
    from streamgauge.check.look import Looked
    from streamgauge.clock import Clock
    from streamgauge.spec.load import Spec
    from streamgauge.spec.resolved import Resolved
    from streamgauge.suite.prepare import Prepared
    from streamgauge.target import Target

_SHOWN = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@click.command(
    epilog="""\b
Examples:
  streamgauge check
  streamgauge check --env staging
  streamgauge check --url http://127.0.0.1:8000/v1/chat/completions --model my-model
  streamgauge check --json > facts.json
  streamgauge check --calibrate
"""
)
@target_options
@click.option("--preset", metavar="P", help="Of the run whose plan is shown.")
@click.option(
    "--calibrate", is_flag=True, help="Instead: find out in about a minute what load this machine can measure."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, with their facts as values.")
def check(
    config: str | None,
    environment: str | None,
    url: str | None,
    dialect: str | None,
    model: str | None,
    headers: tuple[str, ...],
    proxy: str | None,
    probes: tuple[str, ...],
    sets: tuple[str, ...],
    preset: str | None,
    calibrate: bool,
    as_json: bool,
) -> int:
    """Tell what answers at each target and how, and what the planned run would send, cost and be able to decide.

    Sends two short requests a target: one plain, one as a browser that offers compression. Each probe is read once.
    Exit 4 when a target cannot be used, 2 when the plan would not start. With --calibrate nothing is sent to any
    target: this machine is measured against the built-in simulator, up to the planned streams, and the result is kept
    for every later report.
    """
    from streamgauge.cli.options import read_spec, spec_above
    from streamgauge.clock import SystemClock
    from streamgauge.errors import Exit, UsageError, worst
    from streamgauge.spec.resolve import resolve
    from streamgauge.spec.settings import Overrides

    spec = read_spec(config, url, dialect, model, headers, sets, proxy, probes=probes)
    if calibrate:
        from streamgauge.cli.calibration import calibrate_here

        return calibrate_here(_planned_streams(spec, environment, preset), as_json=as_json)
    if spec is None:
        above = spec_above()
        step = f"--config {above} takes the one above" if above else "`streamgauge init` writes a spec"
        raise UsageError(f"nothing to check: no streamgauge.toml here and no --url; {step}")
    resolved = [resolve(spec, environment, os.environ, test, Overrides(preset=preset)) for test in spec.tests]
    clock = SystemClock()
    looked: dict[str, Looked] = {}
    for target, by in _targets(resolved).values():
        looked[target.name] = _look(target, by, spec, clock)
        if not as_json:
            _print(target.name, looked[target.name].findings)
    probed = _probed(resolved, clock)
    if not as_json:
        for name, finding in probed.items():
            _print(f"probe {name}", [finding])
    plans = {one.settings.test: _plan(one) for one in resolved}
    machine = _machine(looked, plans.values(), clock)
    if as_json:
        _print_json(looked, probed, machine, plans)
    else:
        _print("this machine", machine)
        _print_plans(plans)
    codes = [Exit.PASS if one.usable else Exit.UNUSABLE for one in looked.values()]
    startable = all(finding.level != "fail" for finding in machine) and not any(
        isinstance(p, str) for p in plans.values()
    )
    return worst([*codes, Exit.PASS if startable else Exit.USAGE])


def _planned_streams(spec: Spec | None, environment: str | None, preset: str | None) -> int | None:
    """The most streams that any plan of the spec has; None where there is no spec, or none whose plan can be made."""
    from streamgauge.errors import UsageError
    from streamgauge.spec.resolve import resolve
    from streamgauge.spec.settings import Overrides
    from streamgauge.suite.prepare import streams_of

    if spec is None:
        return None
    try:
        resolved = [resolve(spec, environment, os.environ, test, Overrides(preset=preset)) for test in spec.tests]
    except UsageError as error:
        click.echo(f"streamgauge: the plan is not known, so it does not count here: {error}", err=True)
        return None
    plans = map(_plan, resolved)
    return max((streams_of(plan.estimate) for plan in plans if not isinstance(plan, str)), default=None)


def _targets(resolved: list[Resolved]) -> dict[str, tuple[Target, Resolved]]:
    """Each target once, with the first test that uses it."""
    from streamgauge.suite.prepare import targets_of

    found: dict[str, tuple[Target, Resolved]] = {}
    for one in resolved:
        for target in targets_of(one):
            found.setdefault(target.name, (target, one))
    return found


def _look(target: Target, resolved: Resolved, spec: Spec, clock: Clock) -> Looked:
    """Look at one target; what its answers' length tells is kept for the next estimate."""
    from datetime import UTC, datetime

    from streamgauge.check.look import look
    from streamgauge.suite.seen import key_of, remember

    sets = list(resolved.prompts.values())
    looked = look(
        target,
        clock,
        prompt=sets[len(sets) // 2].texts[0],
        references=_references(spec, target.name),
        redact=resolved.redactor.text,
    )
    if looked.length is not None:
        at = datetime.fromtimestamp(clock.wall() / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        warning = remember(Path(), key_of(target), *looked.length, at)
        if warning is not None:
            say(f"streamgauge: {warning}", err=True)
    return looked


def _probed(resolved: list[Resolved], clock: Clock) -> dict[str, Finding]:
    """What each probe of the spec sees, each asked once."""
    from streamgauge.check.probed import look_at_probe
    from streamgauge.suite.probing import probes_for

    probes = {probe.name: probe for one in resolved for probe in probes_for(one, clock)}
    return {name: look_at_probe(probe) for name, probe in probes.items()}


def _references(spec: Spec, name: str) -> References:
    """The variables in a target's headers; the spec has seen to it that none is empty."""
    from streamgauge.spec.values import REFERENCE

    headers = spec.model.targets[name].headers.items()
    found = {header.lower(): tuple(REFERENCE.findall(template)) for header, template in headers}
    return {header: names for header, names in found.items() if names}


def _plan(resolved: Resolved) -> Prepared | str:
    """The plan of one test, or why it would not start."""
    from streamgauge.cli.calibration import known_of_this_machine
    from streamgauge.errors import UsageError
    from streamgauge.suite.prepare import prepare

    try:
        return prepare(resolved, 1, calibration=known_of_this_machine())
    except UsageError as error:
        return str(error)


def _machine(looked: Mapping[str, Looked], plans: Iterable[Prepared | str], clock: Clock) -> list[Finding]:
    import resource
    import sys

    from streamgauge.check import machine
    from streamgauge.cli.calibration import known_of_this_machine
    from streamgauge.clock import RealtimeMap
    from streamgauge.compiled import MADE_OF
    from streamgauge.load import workers_for
    from streamgauge.suite.prepare import descriptors_needed, streams_of

    stamps = [one.kernel_stamps for one in looked.values() if one.kernel_stamps is not None]
    made = [plan for plan in plans if not isinstance(plan, str)]
    streams = max((plan.estimate.streams for plan in made), default=1)
    open_at_once = max((streams_of(plan.estimate) for plan in made), default=1)
    return [
        machine.clock(
            uncertainty_ns=RealtimeMap(clock).uncertainty,
            kernel_stamps=all(stamps) if stamps else sys.platform == "linux",
            skew_s={name: one.skew_s for name, one in looked.items() if one.skew_s is not None},
            reads=MADE_OF,
        ),
        machine.limits(
            descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],  # a run raises its limit to the hard one
            needed=descriptors_needed(streams),
            streams=streams,
            workers=workers_for(streams),
            cores=os.cpu_count() or 1,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        ),
        machine.accuracy(known_of_this_machine(), open_at_once),
    ]


def _print(name: str, findings: Iterable[Finding]) -> None:
    from textwrap import wrap

    click.echo(coloured(name, bold=True))
    for finding in findings:
        word, colour = _SHOWN[finding.level]
        mark = click.style(f"  {word:<5}", fg=colour)
        first, *rest = wrap(finding.text, 84) or [""]
        click.echo(mark + coloured(f"{finding.what:<9}{first}"))
        for more in rest:
            say(f"{'':16}{more}")
        if finding.next is not None:
            for more in wrap(f"next: {finding.next}", 84, subsequent_indent="      "):
                say(f"{'':16}{more}")


def _print_plans(plans: Mapping[str, Prepared | str]) -> None:
    from streamgauge.cli.screen import plan_lines

    for test, plan in plans.items():
        if isinstance(plan, str):
            say(f"plan   {test}: {plan}")
        else:
            say("\n".join(plan_lines(plan)))


def _print_json(
    looked: Mapping[str, Looked],
    probed: Mapping[str, Finding],
    machine: list[Finding],
    plans: Mapping[str, Prepared | str],
) -> None:
    import msgspec

    from streamgauge.wild import json_bytes

    whole = {
        "targets": {name: {"usable": one.usable, "findings": one.findings} for name, one in looked.items()},
        "probes": probed,
        "machine": machine,
        "plans": {test: _plan_facts(plan) for test, plan in plans.items()},
    }
    click.echo(json_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2)).decode())


def _plan_facts(plan: Prepared | str) -> dict[str, object]:
    from streamgauge.cli.screen import plan_json

    return {"starts": False, "why": plan} if isinstance(plan, str) else {"starts": True, **plan_json(plan)}
