"""Real shells on a pseudo-terminal: a line is typed, the tab key pressed, and what stands there then is read."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from pathlib import Path
from types import TracebackType

START = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
LONGEST_S = 300.0


class Shell:
    """One shell that has read our script."""

    def __init__(self, name: str, script: str, cwd: Path, env: dict[str, str]) -> None:
        self._terminal, inner = os.openpty()
        # setsid --ctty: the terminal is its own, as fish asks for
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *START[name]], stdin=inner, stdout=inner, stderr=inner, cwd=cwd,
            env={**env, "TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": str(cwd)},
        )  # fmt: skip
        os.close(inner)
        (cwd / "script").write_text(script)
        ready = "autoload -Uz compinit && compinit -D -u; " if name == "zsh" else ""
        self._type(f"{ready}source ./script; echo REA''DY\r")  # what is typed is echoed: not as READY
        self._read(rb"READY\r\n")

    def completed(self, line: str) -> str:
        """What the line is once the tab key was pressed at its end; a bar marks where the cursor stands then."""
        self._type(f"{line}\t")
        self._type("\x01echo 'GOT:\x05|'\r")  # to the beginning, to the end
        return self._read(rb"[\r\n]GOT:([^\r\n]*)\r")

    def _type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def _read(self, wanted: bytes) -> str:
        until, out = time.monotonic() + LONGEST_S, b""
        while time.monotonic() < until:
            if select.select([self._terminal], [], [], 0.1)[0]:
                out += os.read(self._terminal, 65_536)
            found = re.search(wanted, out)
            if found is not None:
                return found[found.re.groups].decode()
        raise AssertionError(f"no {wanted!r} in {out!r}")

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)
