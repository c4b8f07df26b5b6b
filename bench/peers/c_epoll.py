"""The C client (bench/epoll_client.c): what a small program can do on this machine. It decodes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from bench.load import compiled
from bench.peers.tool import Case, Told, Tool, quantiles
from bench.plain_client import CLIENT, heard_in, request_of


def command(case: Case) -> Sequence[str]:
    """All streams at once, no ramp. The first request of each stream is not counted by the client itself."""
    client = compiled(CLIENT, case.folder)
    assert client is not None
    (case.folder / "request").write_bytes(request_of(case.model))
    counts = map(str, (case.port, case.streams, max(case.requests - case.streams, 0), 0))
    return ("sh", "-c", 'exec "$@" < request', "sh", client, *counts, "--log", "heard.bin")


def read(case: Case) -> Told:
    """From its own notes."""
    heard = heard_in(case.folder / "heard.bin")
    return Told(quantiles((one.first_ns - one.sent_ns) / 1e6 for one in heard))


def missing() -> str | None:
    """Why it cannot run here."""
    return None if shutil.which("cc") else "no C compiler (cc) here"


TOOL = Tool("C epoll", missing, lambda: "bench/epoll_client.c", command, read)
