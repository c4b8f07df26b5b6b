"""What a person sees on the terminal before and after a run."""

from __future__ import annotations

import re
import resource
import sys
from collections import Counter
from textwrap import wrap
from typing import TYPE_CHECKING

from streamgauge.cli.say import columns, say
from streamgauge.wild import screen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from streamgauge.reports.suite_document import Suite
    from streamgauge.suite.execute import Outcome
    from streamgauge.suite.prepare import Prepared
    from streamgauge.verdict import Criterion


def show_plan(plan: Prepared, *, to_stdout: bool = False) -> None:
    """What would be sent, cost and be decided."""
    say("\n".join(plan_lines(plan, columns(err=not to_stdout))), err=not to_stdout)


def plan_lines(plan: Prepared, width: int) -> list[str]:
    """The plan in words, in lines of `width` columns at most; an address is not broken."""
    from streamgauge.spans import span
    from streamgauge.suite.probing import described

    resolved, estimate, settings = plan.resolved, plan.estimate, plan.resolved.settings
    where = f" in {resolved.environment} ({resolved.kind})" if resolved.environment else f" ({resolved.kind})"
    price = "cost unknown (no usd_per_mtok)" if estimate.usd is None else f"about ${estimate.usd:,.2f}"
    requests = f"{estimate.requests:,} {'request' if estimate.requests == 1 else 'requests'}"
    open_loop = settings.open_loop
    loop = f"up to {estimate.streams:,} {'stream' if estimate.streams == 1 else 'streams'} at once"
    if open_loop is not None:
        loop = f"{open_loop.words}, about {estimate.most_open:,} open at once (cap {estimate.streams:,})"
    gating = [one for one in plan.criteria if one.gating]
    shown = [one for one in plan.criteria if not one.gating and not one.advisory]
    decided = ", ".join(_by_rule(gating)) or "nothing: so few requests can decide none"
    told = [
        *[f"{name} is {url}" for name, url in _addresses(plan).items()],
        f"{requests}, {loop}{_paced(plan)}, about {span(estimate.seconds)}",
        f"about {estimate.input_tokens:,} tokens in, {estimate.output_tokens:,} out, {price}",
        *estimate.words,
        f"decides: {decided}",
    ]
    if shown:
        told.append(f"shown, too few requests or too short to hold back a pass: {', '.join(_by_rule(shown))}")
    if resolved.probes:
        reads = (f"{one['name']} ({one['reads']})" for one in described(resolved))
        told.append(f"read meanwhile: {', '.join(reads)}")
    if settings.double:
        told.append("an undecided run is doubled once, where that fits the hard stops")
    told += [f"note: {note}" for note in (*plan.notes, *_stale(plan))]
    words = no_room(plan)
    if words is not None:
        told.append(f"it cannot start on this machine: {words}")
    targets = ", ".join(target.name for target in resolved.targets)
    head = _wrapped("plan   ", f"{settings.test} {settings.preset}{where}: {targets}", width)
    return head + [line for one in told for line in _wrapped(" " * 7, one, width)]


def no_room(plan: Prepared) -> str | None:
    """That a plan wants more descriptors than there are; a run raises its limit to the hard one."""
    from streamgauge.suite.prepare import beyond_descriptors

    return beyond_descriptors(
        plan.estimate.streams, resource.getrlimit(resource.RLIMIT_NOFILE)[1], plan.resolved.settings.concurrency
    )


def _stale(plan: Prepared) -> list[str]:
    """That what is known of this machine no longer counts. Reports say it beside their own numbers."""
    from streamgauge.reports.wording import calibrated

    known = plan.calibration
    return [calibrated(known)] if known is not None and known.stale is not None else []


def _paced(plan: Prepared) -> str:
    """`, paced to 400 a minute`: by which rpm, and whose where targets differ."""
    arms = (*plan.resolved.targets, *plan.resolved.controls)
    paces = {t.name: t.rpm for t in arms if t.rpm is not None}
    if len(set(paces.values())) == 1 and len(paces) == len(arms):
        each = " each" if len(arms) > 1 else ""
        return f", paced to {next(iter(paces.values())):g} a minute{each}"
    return "".join(f", {name} paced to {rpm:g} a minute" for name, rpm in paces.items())


def _by_rule(criteria: list[Criterion]) -> list[str]:
    """Each rule once, with how many scopes it is asked of."""
    counts = Counter(one.name.partition(" (")[0] for one in criteria)
    return [f"{rule} ({n} times)" if n > 1 else rule for rule, n in counts.items()]


def _wrapped(head: str, words: str, width: int) -> list[str]:
    """In lines: `ttft_ms.p95 < 1000` and addresses stay whole."""
    whole = re.sub(r" ([<>=]+) ", "\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", words)
    lines = wrap(
        whole, width, initial_indent=head, subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _addresses(plan: Prepared) -> dict[str, str]:
    """Where each target and control is asked, without what is secret in it."""
    from streamgauge.secrets import Redactor

    redact = Redactor(plan.resolved.secrets)
    arms = (*plan.resolved.targets, *plan.resolved.controls)
    return {arm.name: redact.url(f"{arm.origin}{arm.path}") for arm in arms}


def plan_json(plan: Prepared) -> dict[str, object]:
    """The plan for programs: what `plan_lines` tells, each number under its own name; null is not known."""
    resolved, estimate, settings = plan.resolved, plan.estimate, plan.resolved.settings
    return {
        "test": settings.test, "preset": settings.preset, "environment": resolved.environment, "kind": resolved.kind,
        "targets": _addresses(plan), "requests": estimate.requests, "streams": estimate.streams,
        "rate_per_s": estimate.rate_per_s,
        "open_loop": None if settings.open_loop is None else settings.open_loop.words,
        "most_open": estimate.most_open, "seconds": round(estimate.seconds, 1), "input_tokens": estimate.input_tokens,
        "output_tokens": estimate.output_tokens, "usd": estimate.usd,
        "probes": [one.name for one in resolved.probes],
        "decides": [one.name for one in plan.criteria if one.gating],
        "shown": [one.name for one in plan.criteria if not one.gating and not one.advisory],
        "doubled_where_undecided": settings.double, "notes": [*plan.notes, *_stale(plan)],
        "cannot_start": no_room(plan),
    }  # fmt: skip


def show_outcome(outcome: Outcome) -> None:
    """The report on one screen, then where its files lie."""
    from streamgauge.reports import terminal

    _show(lambda width: terminal.lines(outcome.assessment.document, width), outcome.files)
    if outcome.unwritten is not None:
        say(f"streamgauge: {outcome.unwritten}", err=True)


def show_suite(suite: Suite, files: Sequence[Path]) -> None:
    """What became of several tests, then where their index lies."""
    from streamgauge.reports import terminal

    say()
    _show(lambda width: terminal.suite_lines(suite, width), files)


def _show(lines: Callable[[int], list[list[tuple[str, str]]]], files: Sequence[Path]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    for line in lines(columns()):
        console.print(Text.assemble(*[(text, style) for text, style in line]))
    for path in files:
        console.print(Text(screen(f"  {path}"), style="dim"))
