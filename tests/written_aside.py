"""Run by a process of its own, which has no other thread: `python written_aside.py FOLDER` writes reports whose forms
fail in each way, and says of each what was raised and what is left, a line of JSON each.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from streamgauge.reports import FORMS, files


def whole() -> Iterator[bytes]:
    yield str(os.getpid()).encode()


def refused() -> Iterator[bytes]:
    yield b"begun"
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed() -> Iterator[bytes]:
    yield b"begun"
    os.kill(os.getpid(), signal.SIGKILL)


def endless() -> Iterator[bytes]:
    while True:
        yield b"x"
        time.sleep(0.01)


def broken() -> Iterator[bytes]:
    yield b"begun"
    time.sleep(0.2)
    raise RuntimeError("the form failed")


Chunks = Callable[[], Iterator[bytes]]
CASES: dict[str, tuple[Chunks, Chunks]] = {
    "both whole": (whole, whole),
    "the csv refused by the disk": (refused, whole),
    "the csv's process killed": (killed, whole),
    "another form failed meanwhile": (endless, broken),
    "both failed": (broken, refused),
}
"""The csv, written aside, and another form."""


def main() -> None:
    for name, (csv, other) in CASES.items():
        folder, raised = Path(sys.argv[1]) / name, ""
        try:
            files.write(folder, "ttft", "20251124T041500Z", {"csv": csv(), "md": other()}, FORMS, ("csv",))
        except Exception as error:  # whatever it is, the test says what it should be
            raised = f"{type(error).__name__} {error}"
        left = {path.name: path.read_text() for path in sorted(folder.iterdir())}
        print(json.dumps({"case": name, "raised": raised, "left": left}))


if __name__ == "__main__":
    main()
