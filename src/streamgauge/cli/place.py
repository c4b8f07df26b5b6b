"""Where a command line says that reports go: tried before anything is sent, so that no run of an hour ends with nowhere
to write.

Rules: it is found out by writing, since no list of questions knows rights, read-only disks, names that are too long and
full disks alike; nothing is left behind. A disk that fills up later is told at the end: the run is kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import click

REPORTS = "tests/performance/reports"
FULL = (errno.ENOSPC, errno.EDQUOT)


def reports_folder(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """--out: a folder that can be written, or a place where one can be made. StorageError where the disk is full."""
    from streamgauge.errors import StorageError

    if value is None or ctx.resilient_parsing:  # at the tab key nothing is tried
        return None
    if not value:
        raise click.BadParameter("it is empty; name a folder (is the variable behind it set?)")
    path = Path(value)
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), Path())
    if not there.is_dir():
        raise click.BadParameter(f"{value}: {there} is a file; name a folder")
    error = refusal(path, there)
    if error is not None and error.errno in FULL:
        raise StorageError(f"--out {value}: {error.strerror}; free space, or name another folder")
    if error is not None:
        why = error.strerror or error
        raise click.BadParameter(f"{value}: no report can be written there: {why}; name another folder with --out")
    return path


def refusal(path: Path, there: Path) -> OSError | None:
    """What the system says to a folder and a file of a name of our own in `there`, the part of `path` that exists; None
    where it takes them. `path` itself is not made: another run may be about to write into it."""
    draft = there / f".streamgauge-{os.getpid()}.part"
    try:
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # its name may be too long, its parents closed
        draft.mkdir()
        (draft / "file").touch()
    except OSError as error:
        return error
    finally:
        for remove in ((draft / "file").unlink, draft.rmdir):
            with contextlib.suppress(OSError):
                remove()
    return None
