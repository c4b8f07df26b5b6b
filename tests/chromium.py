"""A real browser without a window, spoken to over two pipes in its DevTools protocol: JSON, NUL after each message."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from real import require

COMMAND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Tab:
    """One page. Every call waits for its answer, 30 s at most."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._held = b""
        self._calls = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + 120
        while time.monotonic() < until:
            head, end, rest = self._held.partition(b"\0")
            if not end:
                more = os.read(self._from, 65_536)
                assert more, "the browser has ended"
                self._held += more
                continue
            self._held = rest
            said = json.loads(head)
            if said.get("id") == self._calls:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
        raise AssertionError(f"no answer to {method} within 30 s")

    def open(self, path: Path) -> None:
        """Show a file, and wait until it is there."""
        self.call("Page.navigate", url=path.as_uri())
        until = time.monotonic() + 120
        while self.value("location.href + document.readyState") != path.as_uri() + "complete":
            assert time.monotonic() < until, f"{path} is not shown"
            time.sleep(0.02)

    def look(self, *, width: int = 1000, media: str = "screen", scheme: str = "light") -> None:
        """Set the width in pixels, the medium, and what the reader prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A browser with a new profile and one tab, for as long as the block runs."""
    require(COMMAND is not None, "a browser (chromium)")
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    words = f"exec {COMMAND} --headless --no-sandbox --disable-gpu --no-first-run --user-data-dir={profile} \
--remote-debugging-pipe about:blank 3<&{theirs_in} 4>&{theirs_out}"
    profile.mkdir(exist_ok=True)
    process = subprocess.Popen(
        ["bash", "-c", words], pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(profile)},  # what it leaves behind, it leaves there
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Tab(ours_out, ours_in)
    finally:
        process.terminate()
        process.wait(30)
        os.close(ours_in)
        os.close(ours_out)
