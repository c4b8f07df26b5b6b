"""Output whose reader may leave early, as `head` does.

Rules: what nobody reads is thrown away; the command goes on and its exit code stays its own. Without this a verdict of
pass would end as 1, which means fail, because click ends with 1 when its output breaks.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Lenient(io.FileIO):
    """A descriptor that turns into /dev/null when its reader has gone."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or forget, all of `data`."""
        try:
            return super().write(data)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return super().write(data)


def outlive_readers() -> None:
    """Make stdout and stderr lenient, where they are the process's own and no terminal."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper) or stream is not getattr(sys, f"__{name}__") or stream.isatty():
            continue
        stream.flush()
        raw = io.BufferedWriter(_Lenient(stream.fileno(), "w", closefd=False))
        lenient = io.TextIOWrapper(
            raw, encoding=stream.encoding, errors=stream.errors, line_buffering=stream.line_buffering
        )
        setattr(sys, name, lenient)
