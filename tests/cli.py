"""Runs the command as a user does: another process, its own folder, nothing of this environment's CI."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """This environment less what would change a run, plus `more`."""
    drop = ("CI", "STREAMGAUGE_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
    return {**kept, "COLUMNS": "100", **more}


def streamgauge(*arguments: str | Path, cwd: Path, stdin: str | None = None, timeout: float = 120, **env: str) -> Done:
    """Run `streamgauge ARGUMENTS` in `cwd` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "streamgauge", *map(str, arguments)],
        cwd=cwd,
        env=environment(**env),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
