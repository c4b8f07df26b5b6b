"""What happened in a run, as it happens: `journal.jsonl` in the run folder.

Rules: the run folder is the truth. Every later verb works from it alone, so a run that was killed can still be
reported.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from streamgauge.errors import StorageError, UsageError


class Journal:
    """The run's own story, one JSON object a line, each on the disk as soon as it happened. Who has it open alone
    runs the run: UsageError where somebody else does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.jsonl"
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}; use another folder or free it") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise UsageError(f"{folder.name} is still running: wait for its end, or stop it (Ctrl-C)") from None
        except OSError:
            pass  # a file system without locks: then nobody is kept from it

    def add(self, event: str, **facts: object) -> None:
        """Append one line."""
        line = json.dumps({"event": event, **facts}, ensure_ascii=False, default=str) + "\n"
        try:
            os.write(self._fd, line.encode())
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}; free space, then run again") from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
