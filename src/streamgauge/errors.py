"""The few errors a user can meet, by who is at fault.

Rules: a text names the value, the place and the next step. A failure of the target while load runs is data (a Sample
with an outcome), never one of these. A bug of ours is any other exception: it stops the run and exits 70.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Exit(enum.IntEnum):
    """Exit codes: a contract that CI scripts lean on."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    UNUSABLE = 4
    INVALID = 5
    INTERNAL = 70
    INTERRUPTED = 130
    TERMINATED = 143


_PRECEDENCE = (
    Exit.INTERNAL,
    Exit.USAGE,
    Exit.INTERRUPTED,
    Exit.TERMINATED,
    Exit.FAIL,
    Exit.INVALID,
    Exit.UNUSABLE,
    Exit.INCONCLUSIVE,
    Exit.PASS,
)


def worst(codes: Iterable[int]) -> Exit:
    """The exit code for several results: the first present of 70, 2, 130, 143, 1, 5, 4, 3, 0.

    Nothing at all is a bug of the caller: ValueError.
    """
    present = {Exit(c) for c in codes}
    for code in _PRECEDENCE:
        if code in present:
            return code
    raise ValueError("no exit codes given")


class StreamgaugeError(Exception):
    """A message for the user and the exit code that goes with it. Raise one of the kinds below."""

    exit: Exit = Exit.INTERNAL


class UsageError(StreamgaugeError):
    """The command line or the spec is wrong; nothing was sent."""

    exit = Exit.USAGE


class TargetError(StreamgaugeError):
    """The target cannot be used at all (name, connect, TLS, set-up). `target`, `stage` and `next` go into --json."""

    exit = Exit.UNUSABLE

    def __init__(self, message: str, *, target: str, stage: str, next_step: str) -> None:
        super().__init__(message)
        self.target = target
        self.stage = stage
        self.next = next_step


class StorageError(StreamgaugeError):
    """Our own disk: a folder that cannot be written, no space left."""

    exit = Exit.UNUSABLE
