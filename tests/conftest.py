"""What holds for all tests of a process."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator

import pytest

from streamgauge.net import SO_TIMESTAMPNS


@pytest.fixture(scope="session", autouse=True)
def the_kernel_stamps() -> Iterator[None]:
    """Keep the kernel stamping. It begins a little after the first socket of the machine that asks for it, and ends
    with the last; on a busy machine that little is long enough for a test's first bytes to come without a stamp."""
    if sys.platform != "linux":
        yield
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs = listener.accept()[0]
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        until, stamped = time.monotonic() + 30, False
        while not stamped and time.monotonic() < until:  # where it never comes, the tests say what is missing
            theirs.send(b"x")
            stamped = bool(ours.recvmsg(9, 64)[1])
        yield
