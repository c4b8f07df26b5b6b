"""`streamgauge check --calibrate`: what this machine can measure; and what is known of that already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streamgauge.calibrate import Calibrated, Level
    from streamgauge.reports.document import Calibration


def known_of_this_machine() -> Calibration | None:
    """The last calibration, a stale one with its reason; None where there is none."""
    from datetime import UTC, datetime

    from streamgauge.calibrate import fingerprint, quote, state_file
    from streamgauge.clock import SystemClock

    now = datetime.fromtimestamp(SystemClock().wall() / 1e9, UTC)
    return quote(state_file(os.environ), fingerprint(), now)


def calibrate_here(planned: int | None, *, as_json: bool) -> int:
    """Measure, tell each level as it ends, keep the result, say what it means. planned: streams of the spec's plan."""
    from streamgauge.calibrate import LEVEL_S, calibrate, keep, ladder, larger, quoted, state_file
    from streamgauge.clock import SystemClock
    from streamgauge.reports.wording import calibrated

    levels = ladder(planned)
    click.echo(
        f"this machine against the built-in simulator, up to {levels[-1]:,} streams of 50 tok/s "
        f"({'by the plan' if planned else 'as far as it goes'}); about {len(levels) * (LEVEL_S + 5):.0f} s",
        err=True,
    )
    found = calibrate(levels, SystemClock(), lambda level: click.echo(told(level), err=True))
    path = state_file(os.environ)
    before = larger(path, found)
    warning = keep(path, found) if before is None else None
    if as_json:
        click.echo(_json(found))
    else:
        click.echo(f"{calibrated(quoted(found))}.")
        if before is not None:
            click.echo(
                f"The one of {before.at[:10]} stays, which tried {before.levels[-1].streams:,} streams; this one bears "
                f"it out as far as it went. To begin anew, delete {path}."
            )
        elif warning is None:
            click.echo(f"Kept in {path}; every report of this machine quotes it.")
    if warning is not None:
        click.echo(f"streamgauge: {warning}", err=True)
    return 0


def told(level: Level) -> str:
    """One level in two lines: ours, and apart from it the simulator's."""
    from streamgauge.calibrate import fault

    wrong = fault(level)
    busy = "" if level.cpu is None else f", {level.cpu:.0%} of a core"
    ours = "holds" if wrong is None else f"does NOT hold: {wrong}"
    return (
        f"  {level.streams:>6,} streams  {level.events_per_s:>7,.0f} events/s  first tokens within "
        f"{' / '.join(f'{value:.2f}' for value in level.error_ms.values()) or '-'} ms at p50 / p95 / p99{busy}\n"
        f"         {ours} (the simulator's own: sends {_ms(level.sim_late_ms)} late, requests picked up after "
        f"{_ms(level.pick_up_ms)} at p95)"
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _json(found: Calibrated) -> str:
    import msgspec

    from streamgauge.calibrate import quoted

    whole = {"calibration": quoted(found), "fingerprint": found.fingerprint, "levels": found.levels}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()
