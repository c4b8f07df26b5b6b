"""Report files: one name for all forms of a report, and no file that is half written.

Rules: `{test}_{timestamp}.{ext}`, the timestamp in UTC; `-2`, `-3`... after it where any form of that name exists, so
that two runs that end in one second keep both. All names are reserved first (O_EXCL), then each file is written
beside its name and renamed onto it: a reader sees nothing, an empty file or the whole. What cannot be written leaves
nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from streamgauge.errors import StorageError
from streamgauge.reports import aside

_STAMP = re.compile(r"\d{8}T\d{6}Z")
_MOST = 10_000
"""So many reports of one test in one second are no accident of ours to solve."""


def timestamp(stamp: datetime | str) -> str:
    """`YYYYMMDDTHHMMSSZ` of an aware datetime, of ISO 8601 text with an offset, or of text that already is one."""
    if isinstance(stamp, str):
        if _STAMP.fullmatch(stamp):
            return stamp
        stamp = datetime.fromisoformat(stamp)
    if stamp.tzinfo is None:
        raise ValueError(f"the time {stamp.isoformat()} names no offset: a report's time is UTC")
    return stamp.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def write(
    folder: Path,
    test: str,
    stamp: str,
    forms: Mapping[str, Iterable[bytes]],
    all_extensions: Iterable[str],
    long: Collection[str] = (),
) -> list[Path]:
    """Write each form (extension to its bytes in chunks) and give the paths, in the same order.

    A name is taken when any of `all_extensions` exists under it, written now or not: one name is one report. `long`:
    forms that are many bytes, written beside the others where that is possible. StorageError names the folder and the
    next step.
    """
    stem = f"{re.sub('[^A-Za-z0-9.-]', '-', test).strip('.') or 'report'}_{stamp}"
    reserved: list[Path] = []
    drafts: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reserved = _reserve(folder, stem, list(forms), list(all_extensions))
        drafts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in reserved]
        with contextlib.ExitStack() as running:
            here = []
            for form, path, draft in zip(forms, reserved, drafts, strict=True):
                job = functools.partial(_write_one, path, draft, forms[form])
                if form in long and aside.possible():
                    running.enter_context(aside.doing(job))
                else:
                    here.append(job)
            for job in here:
                job()
    except OSError as error:
        _remove([*reserved, *drafts])
        raise StorageError(_explanation(folder, error)) from error
    except BaseException:  # Ctrl-C too must leave no half of a file, and no empty ones that hold the names
        _remove([*reserved, *drafts])
        raise
    return reserved


def _reserve(folder: Path, stem: str, extensions: list[str], all_extensions: list[str]) -> list[Path]:
    for i in range(1, _MOST):
        name = stem if i == 1 else f"{stem}-{i}"
        if any((folder / f"{name}.{ext}").exists() for ext in all_extensions):
            continue
        made: list[Path] = []
        try:
            for ext in extensions:
                path = folder / f"{name}.{ext}"
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
                made.append(path)
        except FileExistsError:  # another run took the name between the look and the creation
            _remove(made)
            continue
        except OSError:
            _remove(made)
            raise
        return made
    raise FileExistsError(errno.EEXIST, "every name for this report is taken", str(folder / stem))


def _write_one(path: Path, draft: Path, chunks: Iterable[bytes]) -> None:
    with draft.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
    draft.replace(path)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _explanation(folder: Path, error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    step = (
        "free space, then `streamgauge report` makes them again from the run" if full else "choose another with --out"
    )
    return f"cannot write reports to {folder}: {error.strerror or error}; {step}"
