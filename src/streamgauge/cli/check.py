"""`streamgauge check`: one short request a target, told line by line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamgauge.cli.options import target_options

if TYPE_CHECKING:
    from streamgauge.check import Line
    from streamgauge.target import Target

PROMPT = "Count from one to twenty in words."
LENGTH = 48


@click.command(
    epilog="""\b
Examples:
  streamgauge check
  streamgauge check --env staging
  streamgauge check --url http://127.0.0.1:8000/v1/chat/completions --model my-model
"""
)
@target_options
@click.option("--preset", metavar="P", help="Of the run whose plan is shown.")
@click.option("--json", "as_json", is_flag=True, help="Print the lines as JSON.")
def check(
    config: str | None,
    environment: str | None,
    url: str | None,
    dialect: str | None,
    model: str | None,
    headers: tuple[str, ...],
    sets: tuple[str, ...],
    preset: str | None,
    as_json: bool,
) -> int:
    """Tell what answers at each target and how, and what the planned run would send, cost and be able to decide.

    Sends two short requests a target: one plain, one as a browser that offers compression. Exit 4 when a target
    cannot be used.
    """
    from streamgauge.check import machine
    from streamgauge.cli.options import read_spec
    from streamgauge.cli.screen import plan_lines
    from streamgauge.clock import RealtimeMap, SystemClock
    from streamgauge.errors import Exit, UsageError
    from streamgauge.run import workers_for
    from streamgauge.spec.resolve import resolve
    from streamgauge.spec.settings import Overrides
    from streamgauge.suite.prepare import prepare
    from streamgauge.worker import raise_descriptor_limit

    spec = read_spec(config, url, dialect, model, headers, sets)
    if spec is None:
        raise UsageError("nothing to check: no streamgauge.toml here and no --url; `streamgauge init` writes a spec")
    plans = [prepare(resolve(spec, environment, os.environ, t, Overrides(preset=preset)), 1) for t in spec.tests]
    targets = {target.name: target for plan in plans for target in plan.load.targets}
    secrets = tuple({secret for plan in plans for secret in plan.load.secrets})
    told: dict[str, list[Line]] = {name: _look(target, secrets) for name, target in targets.items()}
    streams = max(plan.estimate.streams for plan in plans)
    told["this machine"] = machine(
        uncertainty_ns=RealtimeMap(SystemClock()).uncertainty,
        kernel_stamps=Path("/proc/thread-self").exists(),
        descriptors=raise_descriptor_limit(),
        streams=streams,
        workers=workers_for(streams),
    )
    if as_json:
        _print_json(told)
    else:
        _print(told, [line for plan in plans for line in plan_lines(plan)])
    failed = any(line.mark == "FAIL" for lines in told.values() for line in lines)
    return Exit.UNUSABLE if failed else Exit.PASS


def _look(target: Target, secrets: tuple[str, ...]) -> list[Line]:
    """Two requests to one target; the second one only where the first was answered well."""
    import msgspec

    from streamgauge.check import Line, compressed, lines_of
    from streamgauge.client import StreamClient
    from streamgauge.net import NetError, resolve
    from streamgauge.secrets import Redactor
    from streamgauge.stream import Limits

    limits = Limits(first_output_ns=30_000_000_000, stall_ns=30_000_000_000, total_ns=60_000_000_000)
    try:
        found = resolve(target.host, target.port)
    except NetError as error:
        return [
            Line("FAIL", "resolve", error.words, "check the host's spelling, or whether this machine may resolve it")
        ]
    names = f"{len(found)} address{'es' if len(found) > 1 else ''}: {', '.join(address for address, _ in found[:4])}"
    target = msgspec.structs.replace(target, addresses=found, limits=limits, max_tokens=LENGTH)
    redact = Redactor(secrets).text
    lines = [Line("ok", "resolve", names)]
    with StreamClient.for_target(target) as client:
        plain = client.ask(PROMPT)
        lines += lines_of(target, plain)
        if plain.sample.good:
            lines.append(compressed(plain, client.ask(PROMPT, headers={"Accept-Encoding": "gzip, deflate"})))
    return [Line(line.mark, line.subject, redact(line.words), line.next_step) for line in lines]


def _print(told: dict[str, list[Line]], plan: list[str]) -> None:
    from textwrap import wrap

    colours = {"ok": "green", "warn": "yellow", "FAIL": "red"}
    for name, lines in told.items():
        click.secho(name, bold=True)
        for line in lines:
            mark = click.style(f"  {line.mark:<5}", fg=colours[line.mark])
            first, *rest = wrap(line.words, 88) or [""]
            click.echo(f"{mark}{line.subject:<9}{first}")
            for more in rest:
                click.echo(f"{'':16}{more}")
            if line.next_step is not None and line.mark != "ok":
                click.echo(f"{'':16}next: {line.next_step}")
    click.echo("\n".join(plan))


def _print_json(told: dict[str, list[Line]]) -> None:
    import dataclasses
    import json

    click.echo(
        json.dumps({name: [dataclasses.asdict(line) for line in lines] for name, lines in told.items()}, indent=2)
    )
