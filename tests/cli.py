"""Runs the command as a user does: another process, its own folder, nothing of this environment's CI."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jsonschema

from streamgauge.cli import main
from streamgauge.reports import to_json

T = TypeVar("T")
NO_STATE = Path(__file__).parent / "no-such-state"
"""Nothing is known of this machine, whatever its user found out."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def valid_report(text: str) -> dict[str, Any]:
    """A report's JSON, which the shipped schema accepts."""
    report: dict[str, Any] = json.loads(text)
    jsonschema.Draft202012Validator(to_json.schema()).validate(report)
    return report


def environment(**more: str) -> dict[str, str]:
    """This environment less what would change a run, plus `more`."""
    drop = ("CI", "STREAMGAUGE_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(drop) and not k.lower().endswith("_proxy")}
    return {**kept, "COLUMNS": "100", "STREAMGAUGE_STATE": str(NO_STATE), **more}


def streamgauge(*arguments: str | Path, cwd: Path, stdin: str | None = None, timeout: float = 300, **env: str) -> Done:
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


def undisturbed(*arguments: str | Path, cwd: Path, **more: Any) -> Done:
    """The same, again (at most three times) where this machine was too busy to measure: exit 5 is its doing."""
    return again_if_invalid(lambda: streamgauge(*arguments, cwd=cwd, **more), lambda done: done.code, cwd)


def again_if_invalid(run: Callable[[], T], code: Callable[[T], int], cwd: Path) -> T:
    """`run()` until its exit code is not 5, four times at most. What one left in `cwd` is removed before the next."""
    before = set(cwd.iterdir())
    for _ in range(3):
        done = run()
        if code(done) != 5:
            return done
        for left in set(cwd.iterdir()) - before:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return run()


def inline(*arguments: str | Path, cwd: Path, stdin: bytes = b"", **env: str) -> Done:
    """The same without a process of its own: quick, for what ends before anything is sent."""
    kept = dict(os.environ)
    before = sys.argv, sys.stdin
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in range(2))
    try:
        os.environ.clear()
        os.environ.update({name: value for name, value in environment(**env).items() if not name.startswith("PYTEST_")})
        sys.argv = ["streamgauge", *map(str, arguments)]
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os.environ.clear()
        os.environ.update(kept)
        sys.argv, sys.stdin = before
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined] # it is the BytesIO above
    return Done(code, *texts)
